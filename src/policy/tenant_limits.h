// How much one tenant may ask for: requests and tokens a minute, and requests at once. Buckets that
// fill steadily and hold a minute's worth: a burst of a minute is allowed, an average above is not.
//
// Requests are counted as they come in, tokens when they are known: a prompt's when it has been
// tokenized, an output's when it has ended; so a bucket may be overdrawn, and the next request
// waits until it has come back. Of several gateways each has its share.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

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

// What one of `shares` equal parts of something filled up every minute is left of. A part holds at
// least one, however small it is: it then only takes longer.
class QuotaBucket {
 public:
  QuotaBucket() = default;
  explicit QuotaBucket(std::int64_t per_minute, int shares = 1)
      : per_minute_(static_cast<double>(per_minute)), shares_(shares), left_(holds()) {}
  bool limited() const { return per_minute_ > 0; }
  double per_minute() const { return per_minute_; }  // of all shares
  double left(Time now) const;
  // When `amount` will be there, from now; what is more than the bucket holds: when it is full.
  Duration wait_for(double amount, Time now) const;
  Duration until_full(Time now) const { return wait_for(holds(), now); }
  void take(double amount, Time now);
  void give_back(double amount, Time now);
  // Another quota: what has been used stays used.
  void resize(std::int64_t per_minute, Time now);
  // Another number of shares: what is left of this one shrinks or grows as it does.
  void divide(int shares, Time now);

 private:
  double holds() const;
  double per_minute_ = 0;
  int shares_ = 1;
  double left_ = 0;
  Time as_of_{};
};

class TenantLimits {
 public:
  enum class Exceeded : std::uint8_t { kRequests, kTokens, kConcurrency };
  struct Refusal {
    Exceeded what = Exceeded::kRequests;
    Duration retry_after{};  // who comes back then comes in, if nobody else of the tenant has come
  };
  // What a client is told of its limits.
  struct Standing {
    QuotaBucket requests, tokens;
    int running = 0;
    int concurrency = 0;  // of all gateways together
  };

  // What a tenant has used so far stays used when its quota changes to another one.
  void set_quota(TenantId tenant, const TenantQuota& quota, Time now);
  // So many gateways serve the same tenants, each its share.
  void set_gateways(int count, Time now);

  // A request with a body of so many bytes comes in. Not refused: it is counted, and ends with
  // release().
  std::optional<Refusal> admit(TenantId tenant, Bytes body, Time now);
  // Its prompts are so long. Not refused: they are counted.
  std::optional<Refusal> admit_tokens(TenantId tenant, Tokens tokens, Bytes body, Time now);
  // No instance has worked for it: it is none of the minute's requests, and its prompts, as far as
  // they were counted, none of its tokens.
  void refund(TenantId tenant, Tokens prompts, Time now);
  void count_output(TenantId tenant, Tokens tokens, Time now);
  void release(TenantId tenant, Time admitted, Time now);

  Standing standing(TenantId tenant) const;

 private:
  struct Tenant {
    Standing standing;
    std::multiset<Time> admitted;      // of those that run
    std::optional<double> run_s_mean;  // of those that have ended, the last ones above all
    double tokens_per_byte = 0.5;      // of bodies; rather too many than too few
  };
  int share_of(int concurrency) const;
  Duration retry_after(const Tenant& tenant, Bytes body, Time now) const;
  std::map<TenantId, Tenant> tenants_;
  int gateways_ = 1;
};

}  // namespace pd::policy
