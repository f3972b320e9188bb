#include "gateway/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pd::gateway {
namespace {

using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

net::HttpRequest with_key(const std::string& authorization) {
  net::HttpRequest request;
  if (!authorization.empty()) request.headers.emplace_back("authorization", authorization);
  return request;
}

class AccessTest : public testing::Test {
 protected:
  AccessTest() {
    file_.tenants = {{.name = "search", .weight = 2, .requests_per_minute = 60}, {.name = "mail"}};
    file_.keys = {{"backend", "search", sha256_hex("sk-1"), 1},
                  {"laptop", "search", sha256_hex("sk-2"), 0},
                  {"mailer", "mail", sha256_hex("sk-3"), 0}};
  }
  Caller caller(const std::string& key) {
    return access_.authenticate(with_key("Bearer " + key)).value();
  }
  protocol::AccessFile file_;
  Metrics metrics_;
  Access access_{"secret", metrics_};
  Time now_{seconds(1000)};
};

TEST_F(AccessTest, Sha256IsTheStandardOne) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(AccessTest, WithoutAFileEverybodyIsNobodyInParticular) {
  const auto caller = access_.authenticate(with_key(""));
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->tenant, policy::TenantId());
  EXPECT_FALSE(access_.admit(*caller, Bytes(100), now_));
  EXPECT_THAT(access_.headers(*caller, now_), IsEmpty());
}

TEST_F(AccessTest, AKeyNamesItsTenant) {
  access_.use(file_, now_);
  const Caller backend = caller("sk-1"), laptop = caller("sk-2"), mailer = caller("sk-3");
  EXPECT_EQ(backend.key, "backend");
  EXPECT_EQ(backend.tenant_name, "search");
  EXPECT_EQ(backend.priority, 1);
  EXPECT_EQ(backend.tenant, laptop.tenant);
  EXPECT_EQ(backend.salt, laptop.salt);
  EXPECT_NE(backend.tenant, mailer.tenant);
  EXPECT_NE(backend.salt, mailer.salt) << "tenants share no prefix (G30)";
  EXPECT_TRUE(Access("secret", metrics_).authenticate({})) << "without a file nobody needs a key";
}

TEST_F(AccessTest, EveryGatewayOfAClusterComputesTheSameSaltAndNobodyElse) {
  access_.use(file_, now_);
  Access same("secret", metrics_), other("other", metrics_);
  same.use(file_, now_);
  other.use(file_, now_);
  const auto salt = [](const Access& access) {
    return access.authenticate(with_key("Bearer sk-1"))->salt;
  };
  EXPECT_EQ(salt(access_), salt(same));
  EXPECT_NE(salt(access_), salt(other));
}

TEST_F(AccessTest, WithoutAGoodKeyNobodyComesIn) {
  access_.use(file_, now_);
  for (const char* bad : {"", "Bearer", "Bearer ", "Basic sk-1", "sk-1", "Bearer sk-4",
                          "Bearer sk-1 ", "bearer  sk-12", "Bearer SK-1"}) {
    const auto refused = access_.authenticate(with_key(bad));
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().status, 401);
    EXPECT_THAT(refused.error().message, testing::Not(HasSubstr("sk-")));
  }
  EXPECT_TRUE(access_.authenticate(with_key("bearer sk-1"))) << "schemes have no case";
}

TEST_F(AccessTest, TheClustersSecretComesInWithoutLimits) {
  access_.use(file_, now_);
  const auto own = access_.authenticate(with_key("Bearer secret"));
  ASSERT_TRUE(own);
  EXPECT_EQ(own->tenant, policy::TenantId());
  Access without("", metrics_);
  without.use(file_, now_);
  EXPECT_FALSE(without.authenticate(with_key("Bearer ")));
}

TEST_F(AccessTest, LimitsAreTheTenantsAndSaidInHeaders) {
  access_.use(file_, now_);
  const Caller backend = caller("sk-1"), laptop = caller("sk-2");
  for (int i = 0; i < 30; ++i) {
    EXPECT_FALSE(access_.admit(backend, Bytes(100), now_));
    EXPECT_FALSE(access_.admit(laptop, Bytes(100), now_));
  }
  const auto refusal = access_.admit(laptop, Bytes(100), now_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->error.status, 429);
  EXPECT_THAT(refusal->error.message, HasSubstr("60 requests per minute"));
  EXPECT_EQ(refusal->retry_after, seconds(1));
  EXPECT_THAT(access_.headers(backend, now_),
              Contains(Pair("x-ratelimit-remaining-requests", "0")));
  EXPECT_THAT(access_.headers(backend, now_), Contains(Pair("x-ratelimit-reset-requests", "1m0s")));
  EXPECT_THAT(access_.headers(caller("sk-3"), now_), IsEmpty());
  EXPECT_THAT(metrics_.text(), HasSubstr("pdserve_requests_over_quota_total"));
}

TEST_F(AccessTest, OnlyALongBodyWithItsCallersMistakeIsNotGivenBack) {
  access_.use(file_, now_);
  const Caller backend = caller("sk-1");
  const auto left_after = [&](int status, Bytes body) {
    EXPECT_FALSE(access_.admit(backend, body, now_));
    access_.refund(backend, status, body, Tokens(0), now_);
    for (const auto& [name, value] : access_.headers(backend, now_))
      if (name == "x-ratelimit-remaining-requests") return value;
    return std::string();
  };
  for (const int status : {400, 404, 429, 499, 503})
    EXPECT_EQ(left_after(status, Bytes(2048)), "60");
  for (const int status : {429, 500, 503}) EXPECT_EQ(left_after(status, Bytes(2049)), "60");
  EXPECT_EQ(left_after(400, Bytes(2049)), "59");
  EXPECT_EQ(left_after(404, Bytes(10'000'000)), "58");
  EXPECT_EQ(left_after(499, Bytes(2049)), "57") << "or who leaves would be read for nothing";
}

TEST_F(AccessTest, AChangedFileCountsAtOnceAndForgivesNothing) {
  access_.use(file_, now_);
  const Caller before = caller("sk-1");
  for (int i = 0; i < 60; ++i) (void)access_.admit(before, Bytes(100), now_);
  file_.keys.erase(file_.keys.begin() + 1);
  file_.tenants.insert(file_.tenants.begin(), {.name = "new"});
  file_.keys.push_back({"fresh", "new", sha256_hex("sk-9"), 0});
  access_.use(file_, now_);
  EXPECT_FALSE(access_.authenticate(with_key("Bearer sk-2")));
  EXPECT_EQ(caller("sk-1").tenant, before.tenant) << "a tenant keeps its number";
  EXPECT_TRUE(access_.admit(before, Bytes(100), now_));
  EXPECT_FALSE(access_.admit(caller("sk-9"), Bytes(100), now_));
  EXPECT_EQ(access_.tenants().size(), 3u);
}

}  // namespace
}  // namespace pd::gateway
