#include "gateway/access.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/check.h"
#include "base/digest.h"
#include "gateway/prepare.h"

namespace pd::gateway {

using policy::QuotaBucket;
using policy::TenantId;
using policy::TenantLimits;
using protocol::ApiError;

namespace {

// "6m0.5s", as OpenAI writes durations in headers.
std::string short_time(Duration time) {
  const double seconds = to_seconds(time);
  if (seconds < 1) return fmt::format("{:.0f}ms", std::ceil(seconds * 1000));
  if (seconds < 60) return fmt::format("{:.3g}s", seconds);
  const auto minutes = static_cast<std::int64_t>(seconds / 60);
  return fmt::format("{}m{:.0f}s", minutes, seconds - 60.0 * static_cast<double>(minutes));
}

std::string_view bearer(const net::HttpRequest& request) {
  std::string_view value = request.header("authorization");
  constexpr std::string_view kScheme = "bearer ";
  if (value.size() < kScheme.size()) return {};
  const bool matches =
      std::ranges::equal(value.substr(0, kScheme.size()), kScheme,
                         [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
  if (!matches) return {};
  value.remove_prefix(kScheme.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  return value;
}

}  // namespace

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, 32> digest{};
  unsigned int size = 0;
  CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1);
  std::string out;
  for (const unsigned char byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

Access::Access(std::string secret, Metrics& metrics)
    : secret_(std::move(secret)), metrics_(metrics) {}

TenantId Access::id_of(const std::string& tenant) {
  const auto next = TenantId(static_cast<TenantId::rep>(ids_.size() + 1));
  return ids_.try_emplace(tenant, next).first->second;
}

// Requests wait for the lock: many keys are put in order without it.
void Access::use(const protocol::AccessFile& file, Time now) {
  std::map<std::string, Caller> tenants;
  const std::uint64_t seed = digest64(std::as_bytes(std::span(secret_)));
  {
    const std::lock_guard lock(mutex_);
    for (const protocol::TenantEntry& entry : file.tenants) {
      Caller caller;
      caller.tenant = id_of(entry.name);
      caller.tenant_name = entry.name;
      caller.scenario = entry.scenario;
      caller.weight = entry.weight;
      caller.salt = digest64(std::as_bytes(std::span(entry.name)), seed);
      limits_.set_quota(caller.tenant,
                        {entry.requests_per_minute, entry.tokens_per_minute, entry.concurrency},
                        now);
      tenants.emplace(entry.name, std::move(caller));
    }
  }
  std::map<std::string, Caller, std::less<>> callers;
  // The cluster's own questions: of `up`, of probes.
  if (!secret_.empty()) callers.emplace(sha256_hex(secret_), Caller{.key = "cluster secret"});
  for (const protocol::KeyEntry& entry : file.keys) {
    Caller caller = tenants.at(entry.tenant);
    caller.key = entry.name;
    caller.priority = entry.priority;
    callers.emplace(entry.sha256, std::move(caller));
  }
  const std::lock_guard lock(mutex_);
  asks_for_keys_ = true;
  callers_.swap(callers);
}

protocol::ApiResult<Caller> Access::authenticate(const net::HttpRequest& request) const {
  const std::string_view key = bearer(request);
  const std::string digest = key.empty() ? "" : sha256_hex(key);
  const std::lock_guard lock(mutex_);
  if (!asks_for_keys_) return Caller{};
  if (key.empty()) {
    return std::unexpected(ApiError{
        401, "invalid_request_error",
        "You didn't provide an API key. Send it in an Authorization header: Bearer YOUR_KEY", "",
        "missing_api_key"});
  }
  const auto it = callers_.find(digest);
  if (it == callers_.end()) {
    return std::unexpected(ApiError{401, "invalid_request_error",
                                    "Incorrect API key provided; ask this server's operator", "",
                                    "invalid_api_key"});
  }
  return it->second;
}

void Access::share_between(int gateways, Time now) {
  const std::lock_guard lock(mutex_);
  limits_.set_gateways(gateways, now);
}

std::optional<Refusal> Access::admit(const Caller& caller, Bytes body, Time now) {
  const std::lock_guard lock(mutex_);
  const auto limit = limits_.admit(caller.tenant, body, now);
  return limit ? std::optional(refusal(caller, *limit)) : std::nullopt;
}

std::optional<Refusal> Access::admit_tokens(const Caller& caller, Tokens prompt, Bytes body,
                                            Time now) {
  const std::lock_guard lock(mutex_);
  const auto limit = limits_.admit_tokens(caller.tenant, prompt, body, now);
  return limit ? std::optional(refusal(caller, *limit)) : std::nullopt;
}

void Access::refund(const Caller& caller, int status, Bytes body, Tokens prompts, Time now) {
  const bool callers_doing = status < 500 && status != 429;
  if (callers_doing && body > kPreparedAtOnce) return;
  const std::lock_guard lock(mutex_);
  limits_.refund(caller.tenant, prompts, now);
}

void Access::count_output(const Caller& caller, Tokens tokens, Time now) {
  const std::lock_guard lock(mutex_);
  limits_.count_output(caller.tenant, tokens, now);
}

void Access::release(const Caller& caller, Time admitted, Time now) {
  const std::lock_guard lock(mutex_);
  limits_.release(caller.tenant, admitted, now);
}

Refusal Access::refusal(const Caller& caller, const TenantLimits::Refusal& limit) {
  const TenantLimits::Standing standing = limits_.standing(caller.tenant);
  const auto of = [&](const char* what, double allowed) {
    metrics_
        .counter("pdserve_requests_over_quota_total", "requests refused for their tenant's limits",
                 {{"tenant", caller.tenant_name}, {"limit", what}})
        .add();
    return ApiError{429, "rate_limit_error",
                    fmt::format("Rate limit reached for {}: {} {}; try again in {}",
                                caller.tenant_name, allowed, what, short_time(limit.retry_after)),
                    "", "rate_limit_exceeded"};
  };
  switch (limit.what) {
    case TenantLimits::Exceeded::kRequests:
      return {of("requests per minute", standing.requests.per_minute()), limit.retry_after};
    case TenantLimits::Exceeded::kTokens:
      return {of("tokens per minute", standing.tokens.per_minute()), limit.retry_after};
    case TenantLimits::Exceeded::kConcurrency:
      break;
  }
  return {of("requests at once", standing.concurrency), limit.retry_after};
}

std::vector<net::Header> Access::headers(const Caller& caller, Time now) const {
  std::vector<net::Header> out;
  const std::lock_guard lock(mutex_);
  if (!asks_for_keys_) return out;
  const TenantLimits::Standing standing = limits_.standing(caller.tenant);
  const auto add = [&](const char* what, const QuotaBucket& bucket) {
    if (!bucket.limited()) return;
    const double left = std::max(0.0, std::floor(bucket.left(now)));
    out.emplace_back(fmt::format("x-ratelimit-limit-{}", what),
                     fmt::format("{:.0f}", bucket.per_minute()));
    out.emplace_back(fmt::format("x-ratelimit-remaining-{}", what), fmt::format("{:.0f}", left));
    out.emplace_back(fmt::format("x-ratelimit-reset-{}", what), short_time(bucket.until_full(now)));
  };
  add("requests", standing.requests);
  add("tokens", standing.tokens);
  return out;
}

std::vector<Access::TenantView> Access::tenants() const {
  std::vector<TenantView> out;
  const std::lock_guard lock(mutex_);
  std::set<TenantId> seen;
  for (const auto& [digest, caller] : callers_) {
    if (!caller.tenant_name.empty() && seen.insert(caller.tenant).second)
      out.push_back({caller, limits_.standing(caller.tenant)});
  }
  std::ranges::sort(out, {}, [](const TenantView& view) { return view.caller.tenant_name; });
  return out;
}

}  // namespace pd::gateway
