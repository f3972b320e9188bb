#include "transfer/staging.h"

#include <algorithm>
#include <utility>

namespace pd::transfer {

namespace {

// Sizes in steps, so that prompts of like length reuse each other's pages.
constexpr std::int64_t kStep = 1 << 20;

Bytes whole_pages(Bytes size) {
  const auto page = static_cast<std::int64_t>(kPageBytes);
  return Bytes((size.value() + page - 1) / page * page);
}

Bytes size_of(const Pages& pages) {
  return Bytes(static_cast<std::int64_t>(pages.memory().size()));
}

}  // namespace

Staging::Staging(Bytes budget) : budget_(whole_pages(budget)) {}

std::optional<Pages> Staging::take(Bytes size) {
  // The smallest spare one that is large enough, and not so large that it starves the others.
  const Bytes most(std::max(size.value(), kStep) * 4);
  auto best = spare_.end();
  for (auto at = spare_.begin(); at != spare_.end(); ++at) {
    const Bytes has = size_of(*at);
    if (has >= size && has < most && (best == spare_.end() || has < size_of(*best))) best = at;
  }
  if (best != spare_.end()) {
    Pages pages = std::move(*best);
    spare_.erase(best);
    idle_ -= size_of(pages);
    taken_ += size_of(pages);
    return pages;
  }
  const Bytes stepped(std::min((size.value() + kStep - 1) / kStep * kStep,
                               std::max(whole_pages(size).value(), budget_.value())));
  if (taken_ + stepped > budget_) return std::nullopt;
  while (!spare_.empty() && taken_ + idle_ + stepped > budget_) {
    idle_ -= size_of(spare_.back());
    spare_.pop_back();
  }
  Result<Pages> pages = Pages::create(stepped);
  if (!pages) return std::nullopt;  // tried again when another pull has ended
  taken_ += size_of(*pages);
  return std::move(*pages);
}

void Staging::give_back(Pages pages) {
  if (pages.empty()) return;
  taken_ -= size_of(pages);
  idle_ += size_of(pages);
  spare_.push_back(std::move(pages));
}

}  // namespace pd::transfer
