// Which tokens of which prompts P computes in the next iteration: chunked, batched prefill. Pure.
//
// A share of every iteration belongs to the oldest job; the rest goes to the jobs with the least
// left to do. So a short prompt does not wait behind a long one, and a long one moves in every
// iteration once it is the oldest: it ends after at most (work accepted before it + its own) /
// (share * budget) iterations (G20).
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/time.h"
#include "base/units.h"
#include "policy/holder.h"

namespace pd::policy {

struct BatcherOptions {
  Tokens budget{512};          // tokens of one iteration: bounds its time, and so everyone's wait
  double oldest_share = 0.25;  // of the budget, in (0, 1]
};

struct PrefillChunk {
  Holder job;
  Tokens tokens;
  bool operator==(const PrefillChunk&) const = default;
};

struct PrefillPlan {
  std::vector<Holder> expired;       // deadline passed, no longer known; ordered by arrival
  std::vector<PrefillChunk> chunks;  // at most one per job, ordered by arrival
};

class PrefillBatcher {
 public:
  explicit PrefillBatcher(const BatcherOptions& options);

  // `remaining` >= 1. `chunk_max`: most tokens of this job in one iteration. False: known already.
  bool add(const Holder& job, Tokens remaining, Tokens chunk_max, Time deadline);
  void remove(const Holder& job);
  // Part of the job needs no computing any more (the prefix cache had it); at least 1 token stays.
  void skip(const Holder& job, Tokens tokens);

  // Plans one iteration and counts its tokens as done; a job with none left is no longer known.
  // Expired jobs cost no device time (G16).
  PrefillPlan next(Time now);

  bool empty() const { return jobs_.empty(); }
  Tokens queued() const;  // tokens left to plan

 private:
  struct Job {
    Holder holder;
    Tokens remaining;
    Tokens chunk_max;
    Time deadline;
    Tokens planned{0};
  };
  // Gives the job up to `tokens`; what it took.
  static Tokens give(Job& job, Tokens tokens);

  BatcherOptions options_;
  std::uint64_t next_arrival_ = 0;
  std::map<std::uint64_t, Job> jobs_;  // by arrival
  std::map<Holder, std::uint64_t> arrivals_;
};

}  // namespace pd::policy
