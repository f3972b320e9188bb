// Who is asking, and how much they may: keys and tenants from a file that may change while the
// gateway serves. Without a file everybody is one caller without limits. Any thread: a tenant's
// limits hold over all loops of the process.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "net/http_types.h"
#include "policy/tenant_limits.h"
#include "protocol/access_file.h"
#include "protocol/api_error.h"

namespace pd::gateway {

struct Caller {
  policy::TenantId tenant;
  std::string key;  // names, as in the file; empty: no keys are asked for
  std::string tenant_name;
  std::string scenario;
  double weight = 1;
  int priority = 0;
  std::uint64_t salt = 0;  // of the tenant's prefixes: the same on every gateway (G30)
};

// Not now: 429 and when to come back.
struct Refusal {
  protocol::ApiError error;
  Duration retry_after{};
};

class Access {
 public:
  // `secret`: the cluster's, so that nobody outside it can compute a tenant's salt.
  Access(std::string secret, Metrics& metrics);

  // From now on these keys count. Tenants keep what they have used; requests in flight go on.
  void use(const protocol::AccessFile& file, Time now);

  protocol::ApiResult<Caller> authenticate(const net::HttpRequest& request) const;

  // So many gateways serve the same tenants: each takes its share of their limits.
  void share_between(int gateways, Time now);

  // A request with such a body comes in; not refused: release() when it has ended.
  std::optional<Refusal> admit(const Caller& caller, Bytes body, Time now);
  std::optional<Refusal> admit_tokens(const Caller& caller, Tokens prompt, Bytes body, Time now);
  // The request with such a body ended with `status` before an instance has worked for it: it is
  // none of the minute's requests, and its prompts none of the minute's tokens, unless a text
  // thread has read it for nothing by its caller's doing: a mistake, or that it left (499).
  void refund(const Caller& caller, int status, Bytes body, Tokens prompts, Time now);
  void count_output(const Caller& caller, Tokens tokens, Time now);
  void release(const Caller& caller, Time admitted, Time now);

  // x-ratelimit-*, as OpenAI names them; of limited tenants. What is left is left at this gateway.
  std::vector<net::Header> headers(const Caller& caller, Time now) const;

  struct TenantView {
    Caller caller;
    policy::TenantLimits::Standing standing;
  };
  std::vector<TenantView> tenants() const;

 private:
  Refusal refusal(const Caller& caller, const policy::TenantLimits::Refusal& limit);
  policy::TenantId id_of(const std::string& tenant);

  const std::string secret_;
  mutable std::mutex mutex_;  // of what follows
  Metrics& metrics_;
  policy::TenantLimits limits_;
  std::map<std::string, Caller, std::less<>> callers_;  // by the key's SHA-256
  std::map<std::string, policy::TenantId> ids_;         // never reused
  bool asks_for_keys_ = false;
};

// 64 hex digits.
std::string sha256_hex(std::string_view text);

}  // namespace pd::gateway
