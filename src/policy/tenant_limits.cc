#include "policy/tenant_limits.h"

#include <algorithm>

namespace pd::policy {
namespace {

constexpr Duration kRetryMin = std::chrono::seconds(1);
// Of a new request in the mean of the tenant's: the last ten count.
constexpr double kNewRunWeight = 0.1;
// Of a body with fewer tokens in what a byte of the next one may be: the last fifty. A few short
// bodies, which are mostly not text, say little about a long one.
constexpr double kFewerTokensWeight = 0.02;

}  // namespace

double QuotaBucket::holds() const { return limited() ? std::max(1.0, per_minute_ / shares_) : 0; }

double QuotaBucket::left(Time now) const {
  if (as_of_ == Time{} || now <= as_of_) return left_;
  return std::min(holds(), left_ + to_seconds(now - as_of_) * per_minute_ / shares_ / 60);
}

Duration QuotaBucket::wait_for(double amount, Time now) const {
  const double missing = std::min(amount, holds()) - left(now);
  if (missing <= 0) return Duration(0);
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(missing * shares_ / per_minute_ * 60));
}

void QuotaBucket::take(double amount, Time now) {
  if (!limited()) return;
  left_ = left(now) - amount;
  as_of_ = std::max(as_of_, now);  // threads come with slightly different times
}

void QuotaBucket::give_back(double amount, Time now) {
  take(-amount, now);
  left_ = std::min(left_, holds());
}

void QuotaBucket::resize(std::int64_t per_minute, Time now) {
  if (per_minute_ == static_cast<double>(per_minute)) return;
  const double used = holds() - left(now);
  *this = QuotaBucket(per_minute, shares_);
  take(used, now);
}

void QuotaBucket::divide(int shares, Time now) {
  if (shares == shares_) return;
  const double full = limited() ? left(now) / holds() : 0;
  shares_ = shares;
  left_ = full * holds();
  as_of_ = std::max(as_of_, now);
}

void TenantLimits::set_quota(TenantId tenant, const TenantQuota& quota, Time now) {
  Standing& standing = tenants_[tenant].standing;
  for (QuotaBucket* bucket : {&standing.requests, &standing.tokens}) bucket->divide(gateways_, now);
  standing.requests.resize(quota.requests_per_minute, now);
  standing.tokens.resize(quota.tokens_per_minute, now);
  standing.concurrency = quota.concurrency;
}

void TenantLimits::set_gateways(int count, Time now) {
  gateways_ = std::max(1, count);
  for (auto& [id, tenant] : tenants_) {
    tenant.standing.requests.divide(gateways_, now);
    tenant.standing.tokens.divide(gateways_, now);
  }
}

int TenantLimits::share_of(int concurrency) const { return std::max(1, concurrency / gateways_); }

// When each limit has room for a request like this one.
Duration TenantLimits::retry_after(const Tenant& tenant, Bytes body, Time now) const {
  const Standing& standing = tenant.standing;
  Duration wait{};
  if (standing.requests.limited()) wait = standing.requests.wait_for(1, now);
  if (standing.tokens.limited()) {
    const double need = std::max(1.0, static_cast<double>(body.value()) * tenant.tokens_per_byte);
    wait = std::max(wait, standing.tokens.wait_for(need, now));
  }
  if (standing.concurrency > 0 && standing.running >= share_of(standing.concurrency)) {
    // The one that came first ends first, if it takes as long as the others did.
    const auto mean = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(tenant.run_s_mean.value_or(0)));
    wait = std::max({wait, kRetryMin, *tenant.admitted.begin() + mean - now});
  }
  return wait;
}

std::optional<TenantLimits::Refusal> TenantLimits::admit(TenantId tenant, Bytes body, Time now) {
  Tenant& of = tenants_[tenant];
  Standing& standing = of.standing;
  const auto refused = [&](Exceeded what) { return Refusal{what, retry_after(of, body, now)}; };
  if (standing.concurrency > 0 && standing.running >= share_of(standing.concurrency))
    return refused(Exceeded::kConcurrency);
  if (standing.requests.limited() && standing.requests.left(now) < 1)
    return refused(Exceeded::kRequests);
  // An overdrawn bucket refuses before anything is read.
  if (standing.tokens.limited() && standing.tokens.left(now) <= 0)
    return refused(Exceeded::kTokens);
  standing.requests.take(1, now);
  ++standing.running;
  of.admitted.insert(now);
  return std::nullopt;
}

std::optional<TenantLimits::Refusal> TenantLimits::admit_tokens(TenantId tenant, Tokens tokens,
                                                                Bytes body, Time now) {
  Tenant& of = tenants_[tenant];
  const auto amount = static_cast<double>(tokens.value());
  const double ratio = amount / static_cast<double>(std::max<Bytes::rep>(1, body.value()));
  double& per_byte = of.tokens_per_byte;
  per_byte = std::max(ratio, per_byte + kFewerTokensWeight * (ratio - per_byte));
  QuotaBucket& bucket = of.standing.tokens;
  const Duration wait = bucket.limited() ? bucket.wait_for(amount, now) : Duration(0);
  if (wait > Duration(0)) return Refusal{Exceeded::kTokens, wait};
  bucket.take(amount, now);
  return std::nullopt;
}

void TenantLimits::refund(TenantId tenant, Tokens prompts, Time now) {
  Standing& standing = tenants_[tenant].standing;
  standing.requests.give_back(1, now);
  standing.tokens.give_back(static_cast<double>(prompts.value()), now);
}

void TenantLimits::count_output(TenantId tenant, Tokens tokens, Time now) {
  tenants_[tenant].standing.tokens.take(static_cast<double>(tokens.value()), now);
}

void TenantLimits::release(TenantId tenant, Time admitted, Time now) {
  Tenant& of = tenants_[tenant];
  const auto it = of.admitted.find(admitted);
  if (it == of.admitted.end()) return;
  of.admitted.erase(it);
  --of.standing.running;
  const double took = to_seconds(now - admitted);
  const double mean = of.run_s_mean.value_or(took);
  of.run_s_mean = mean + kNewRunWeight * (took - mean);
}

TenantLimits::Standing TenantLimits::standing(TenantId tenant) const {
  const auto it = tenants_.find(tenant);
  return it == tenants_.end() ? Standing{} : it->second.standing;
}

}  // namespace pd::policy
