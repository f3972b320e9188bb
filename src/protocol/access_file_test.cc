#include "protocol/access_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pd::protocol {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kDigest(64, 'a');

std::string key(const std::string& name, const std::string& tenant, const std::string& digest) {
  return "[[key]]\nname = \"" + name + "\"\ntenant = \"" + tenant + "\"\nsha256 = \"" + digest +
         "\"\n";
}

TEST(AccessFile, ReadsTenantsAndKeys) {
  const auto file = parse_access_file(
      "[[tenant]]\nname = \"search\"\nweight = 2\nscenario = \"chat\"\n"
      "requests_per_minute = 600\ntokens_per_minute = 100000\nconcurrency = 50\n"
      "[[tenant]]\nname = \"mail\"\n" +
          key("one", "search", std::string(64, 'A')) + "priority = -3\n" +
          key("two", "mail", std::string(64, '0')),
      "access.toml");
  ASSERT_TRUE(file);
  EXPECT_THAT(file->tenants, ElementsAre(TenantEntry{"search", 2, "chat", 600, 100000, 50},
                                         TenantEntry{.name = "mail"}));
  EXPECT_THAT(file->keys, ElementsAre(KeyEntry{"one", "search", kDigest, -3},
                                      KeyEntry{"two", "mail", std::string(64, '0')}));
}

TEST(AccessFile, EveryMistakeIsOneLineThatNamesEntryAndFix) {
  const auto mistakes = [](const std::string& text) {
    const auto file = parse_access_file(text, "a.toml");
    return file ? std::vector<std::string>{"accepted"} : file.error();
  };
  EXPECT_THAT(mistakes(""), ElementsAre(HasSubstr("no [[key]]")));
  EXPECT_THAT(mistakes("x ="), ElementsAre(HasSubstr("a.toml:1: not valid TOML")));
  EXPECT_THAT(mistakes("[[kye]]\n"), ElementsAre(HasSubstr("did you mean 'key'?")));
  EXPECT_THAT(mistakes("[key]\n"), ElementsAre(HasSubstr("begun with [[key]]")));
  EXPECT_THAT(mistakes("key = [1]\n"), ElementsAre(HasSubstr("begun with [[key]]")));
  EXPECT_THAT(mistakes("[[tenant]]\nweight = 1\n"), ElementsAre(HasSubstr("name: missing")));
  EXPECT_THAT(mistakes("[[tenant]]\nname = \"a\"\nweight = 0\n" + key("k", "a", kDigest)),
              ElementsAre(HasSubstr("a.toml:3: [[tenant]] weight: must be a number from 0.001")));
  EXPECT_THAT(mistakes("[[tenant]]\nname = \"a\"\nweight = nan\n" + key("k", "a", kDigest)),
              ElementsAre(HasSubstr("weight: must be a number")));
  EXPECT_THAT(mistakes("[[tenant]]\nname = \"a\"\nconcurency = 1\n" + key("k", "a", kDigest)),
              ElementsAre(HasSubstr("did you mean 'concurrency'?")));
  EXPECT_THAT(
      mistakes("[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n" + key("k", "a", kDigest)),
      ElementsAre(HasSubstr("a.toml:3: [[tenant]] name: \"a\" is there twice")));
  const std::string tenant = "[[tenant]]\nname = \"search\"\n";
  EXPECT_THAT(mistakes(tenant + key("k", "serch", kDigest)),
              ElementsAre(HasSubstr("a.toml:3: [[key]] tenant of \"k\": there is no [[tenant]] "
                                    "named \"serch\"; did you mean 'search'?")));
  EXPECT_THAT(mistakes(tenant + key("k", "search", "abc")),
              ElementsAre(HasSubstr("must be 64 hex digits")));
  EXPECT_THAT(mistakes(tenant + key("k", "search", kDigest) + key("k", "search", kDigest)),
              ElementsAre(HasSubstr("twice")));
  EXPECT_THAT(mistakes(tenant + key("k", "search", kDigest) + key("l", "search", kDigest)),
              ElementsAre(HasSubstr("\"k\" has the same key")));
}

}  // namespace
}  // namespace pd::protocol
