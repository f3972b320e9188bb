#include "gateway/text_line.h"

#include <algorithm>

namespace pd::gateway {

bool TextLine::add(WaitingText text) {
  if (held_.items >= limits_.items || held_.bytes >= limits_.bytes) return false;
  Tenant& tenant = tenants_[text.tenant];
  const Held with_it{tenant.held.items + 1, tenant.held.bytes + text.bytes};
  const bool leaves_as_much = with_it.items <= limits_.items - (held_.items + 1) &&
                              with_it.bytes <= limits_.bytes - (held_.bytes + text.bytes);
  if (tenant.held.items > 0 && !leaves_as_much) return false;
  if (tenant.held.items == 0) tenant.had = std::max(tenant.had, floor_);
  if (tenant.waiting.empty()) backlogged_.emplace(tenant.had, text.tenant);
  tenant.held = with_it;
  ++held_.items;
  held_.bytes += text.bytes;
  tenant.waiting.push_back(std::move(text));
  return true;
}

std::optional<WaitingText> TextLine::next() {
  if (backlogged_.empty()) return std::nullopt;
  const auto [had, id] = *backlogged_.begin();
  floor_ = had;
  Tenant& tenant = tenants_.at(id);
  WaitingText text = std::move(tenant.waiting.front());
  tenant.waiting.pop_front();
  if (tenant.waiting.empty()) backlogged_.erase(backlogged_.begin());
  return text;
}

void TextLine::ended(const WaitingText& text, Duration took) {
  Tenant& tenant = tenants_.at(text.tenant);
  --tenant.held.items;
  tenant.held.bytes -= text.bytes;
  --held_.items;
  held_.bytes -= text.bytes;
  const bool waits = backlogged_.erase({tenant.had, text.tenant}) > 0;
  tenant.had += took;
  if (waits) backlogged_.emplace(tenant.had, text.tenant);
}

}  // namespace pd::gateway
