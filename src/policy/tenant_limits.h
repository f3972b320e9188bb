// How much one tenant may ask for: requests and tokens a minute, and requests at once. Buckets that
// fill steadily and hold a minute's worth: a burst of a minute is allowed, an average above is not.
//
// Requests are counted as they come in, tokens when they are known: a prompt's when it has been
// tokenized, an output's when it has ended; so a bucket may be overdrawn, and the next request
// waits until it has come back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/time.h"
#include "base/units.h"
#include "policy/tenant.h"

namespace pd::policy {

struct TenantQuota {
  std::int64_t requests_per_minute = 0;  // 0: no limit
  std::int64_t tokens_per_minute = 0;
  int concurrency = 0;
  bool operator==(const TenantQuota&) const = default;
};

// What filled up every minute is left of.
class QuotaBucket {
 public:
  QuotaBucket() = default;
  explicit QuotaBucket(std::int64_t per_minute)
      : per_minute_(static_cast<double>(per_minute)), left_(per_minute_) {}
  bool limited() const { return per_minute_ > 0; }
  double per_minute() const { return per_minute_; }
  double left(Time now) const;
  // When `amount` will be there, from now; what is more than the bucket holds: when it is full.
  Duration wait_for(double amount, Time now) const;
  Duration until_full(Time now) const { return wait_for(per_minute_, now); }
  void take(double amount, Time now);

 private:
  double per_minute_ = 0;
  double left_ = 0;
  Time as_of_{};
};

class TenantLimits {
 public:
  enum class Exceeded : std::uint8_t { kRequests, kTokens, kConcurrency };
  struct Refusal {
    Exceeded what = Exceeded::kRequests;
    Duration retry_after{};
  };
  // What a client is told of its limits.
  struct Standing {
    QuotaBucket requests, tokens;
    int running = 0;
    int concurrency = 0;
  };

  // What a tenant has used so far stays used when its quota changes to another one.
  void set_quota(TenantId tenant, const TenantQuota& quota, Time now);

  // A request comes in. Not refused: it is counted, and ends with release().
  std::optional<Refusal> admit(TenantId tenant, Time now);
  // Its prompts are so long. Not refused: they are counted.
  std::optional<Refusal> admit_tokens(TenantId tenant, Tokens tokens, Time now);
  void count_output(TenantId tenant, Tokens tokens, Time now);
  void release(TenantId tenant);

  Standing standing(TenantId tenant) const;

 private:
  std::map<TenantId, Standing> tenants_;
};

}  // namespace pd::policy
