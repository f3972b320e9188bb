// Reused memory for pulled bytes that cannot be viewed in place, within one budget: touching fresh
// pages costs more than the copy into them.
#pragma once

#include <optional>
#include <vector>

#include "base/units.h"
#include "transfer/pages.h"

namespace pd::transfer {

class Staging {
 public:
  explicit Staging(Bytes budget);  // rounded up to pages

  // nullopt: not now; others hold the budget, or (when taken() is 0) the kernel gives no memory.
  // `size` must be at most the budget.
  std::optional<Pages> take(Bytes size);
  void give_back(Pages pages);

  Bytes budget() const { return budget_; }
  Bytes taken() const { return taken_; }

 private:
  Bytes budget_;
  Bytes taken_;  // held by callers
  Bytes idle_;   // in spare_
  std::vector<Pages> spare_;
};

}  // namespace pd::transfer
