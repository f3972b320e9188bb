#include "policy/batcher.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace pd::policy {

PrefillBatcher::PrefillBatcher(const BatcherOptions& options) : options_(options) {
  CHECK(options.budget.value() >= 1);
  CHECK(options.oldest_share > 0.0);
  CHECK(options.oldest_share <= 1.0);
}

bool PrefillBatcher::add(const Holder& job, Tokens remaining, Tokens chunk_max, Time deadline) {
  CHECK(remaining.value() >= 1);
  CHECK(chunk_max.value() >= 1);
  if (!arrivals_.emplace(job, next_arrival_).second) return false;
  jobs_.emplace(next_arrival_++, Job{job, remaining, chunk_max, deadline});
  return true;
}

void PrefillBatcher::remove(const Holder& job) {
  const auto it = arrivals_.find(job);
  if (it == arrivals_.end()) return;
  jobs_.erase(it->second);
  arrivals_.erase(it);
}

void PrefillBatcher::skip(const Holder& job, Tokens tokens) {
  const auto it = arrivals_.find(job);
  CHECK(it != arrivals_.end());
  Tokens& remaining = jobs_.at(it->second).remaining;
  CHECK(tokens.value() >= 0);
  CHECK(tokens < remaining);
  remaining -= tokens;
}

Tokens PrefillBatcher::give(Job& job, Tokens tokens) {
  const Tokens taken = std::min({tokens, job.remaining - job.planned, job.chunk_max - job.planned});
  job.planned += taken;
  return taken;
}

PrefillPlan PrefillBatcher::next(Time now) {
  PrefillPlan plan;
  for (const auto& [arrival, job] : jobs_) {
    if (job.deadline <= now) plan.expired.push_back(job.holder);
  }
  for (const Holder& job : plan.expired) remove(job);
  if (jobs_.empty()) return plan;

  Tokens budget = options_.budget;
  const auto share = static_cast<std::int64_t>(
      std::ceil(options_.oldest_share * static_cast<double>(budget.value())));
  budget -= give(jobs_.begin()->second, std::min(budget, Tokens(share)));

  std::vector<std::pair<Tokens, std::uint64_t>> shortest_first;  // among equals the older first
  for (const auto& [arrival, job] : jobs_) shortest_first.emplace_back(job.remaining, arrival);
  std::sort(shortest_first.begin(), shortest_first.end());
  for (const auto& [remaining, arrival] : shortest_first) budget -= give(jobs_.at(arrival), budget);

  for (auto it = jobs_.begin(); it != jobs_.end();) {
    Job& job = it->second;
    if (job.planned.value() > 0) plan.chunks.push_back({job.holder, job.planned});
    job.remaining -= job.planned;
    job.planned = Tokens(0);
    if (job.remaining.value() > 0) {
      ++it;
    } else {
      arrivals_.erase(job.holder);
      it = jobs_.erase(it);
    }
  }
  return plan;
}

Tokens PrefillBatcher::queued() const {
  Tokens sum;
  for (const auto& [arrival, job] : jobs_) sum += job.remaining;
  return sum;
}

}  // namespace pd::policy
