#include "protocol/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pd::protocol {
namespace {

TEST(Config, AnEmptyFileIsTheDefaults) {
  const auto config = parse_config("", "c.toml");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->group.prefill, 2);
  EXPECT_EQ(config->gateway.port, 8000);
}

TEST(Config, WhatIsWrittenIsReadBack) {
  Config config;
  config.model.path = "/models/a \"b\"";
  config.gateway.port = 1234;
  config.gateway.ttft_limit = std::chrono::milliseconds(1500);
  config.prefill.prefix_cache = Bytes(12345);
  config.transfer.wires = "tcp";
  const std::string text = to_toml(config);
  const auto again = parse_config(text, "c.toml");
  ASSERT_TRUE(again) << again.error()[0];
  EXPECT_EQ(to_toml(*again), text);
  EXPECT_EQ(again->model.path, config.model.path);
  EXPECT_EQ(again->gateway.ttft_limit, config.gateway.ttft_limit);
}

struct Mistake {
  const char* text;
  const char* says;
};

class ConfigMistakes : public testing::TestWithParam<Mistake> {};

TEST_P(ConfigMistakes, NamesLineKeyAndFix) {
  const auto config = parse_config(GetParam().text, "c.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().size(), 1u);
  EXPECT_THAT(config.error()[0], testing::HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigMistakes,
    testing::Values(
        Mistake{"[prefil]\nslots = 4",
                "c.toml:1: prefil: unknown section; did you mean 'prefill'?"},
        Mistake{"[prefill]\nslot = 4",
                "c.toml:2: [prefill] slot: unknown key; did you mean 'slots'?"},
        Mistake{"[prefill]\nslots = 0", "[prefill] slots: must be an integer from 1 to 4096"},
        Mistake{"[prefill]\nslots = \"4\"", "[prefill] slots: must be an integer"},
        Mistake{"[prefill]\nslots = 4.5", "[prefill] slots: must be an integer"},
        Mistake{"[gateway]\nport = 70000", "[gateway] port: must be an integer from 0 to 65535"},
        Mistake{"[gateway]\nforwarding = \"full\"",
                "[gateway] forwarding: must be one of \"spread\", \"fill\""},
        Mistake{"[gateway]\nttft_limit = 30", "[gateway] ttft_limit: must be a time such as"},
        Mistake{"[gateway]\nttft_limit = \"30\"", "[gateway] ttft_limit: must be a time such as"},
        Mistake{"[gateway]\nttft_limit = \"-3s\"", "[gateway] ttft_limit: must be a time such as"},
        Mistake{"[gateway]\nttft_limit = \"9999999999999h\"",
                "[gateway] ttft_limit: must be a time such as"},
        Mistake{"[gateway]\nhost = 1", "[gateway] host: must be a string"},
        Mistake{"[gateway]\nhost = \"\"", "[gateway] host: empty"},
        Mistake{"[gateway]\nttft_limit = \"60s\"\nrequest_limit = \"10s\"",
                "[gateway] request_limit: shorter than ttft_limit"},
        Mistake{"[model]\ndtype = \"fp8\"",
                "[model] dtype: must be one of \"auto\", \"f32\", \"bf16\""},
        Mistake{"[model]\nkernels = \"cuda\"", "[model] kernels: must be one of"},
        Mistake{"[group]\nprefill = 0", "[group] prefill: a group needs at least one"},
        Mistake{"[group]\ndecode = 0", "[group] decode: a group needs at least one"},
        Mistake{"[group]\nboth = 1\ndecode = 1", "[group] both: aggregated instances hand nothing"},
        Mistake{"[group]\nwhole = \"some\"", "[group] whole: must be one of"},
        Mistake{"[group]\nprefill = -1", "[group] prefill: must be an integer from 0"},
        Mistake{"[decode]\nkv_memory = 5", "[decode] kv_memory: must be a size such as"},
        Mistake{"[decode]\nkv_memory = \"5 parsecs\"",
                "[decode] kv_memory: must be a size such as"},
        Mistake{"[decode]\nblock_tokens = 0", "[decode] block_tokens: must be an integer"},
        Mistake{"[transfer]\nwires = \"rdma\"", "[transfer] wires: must be one of"},
        Mistake{"[transfer]\ninterface = \"eth0\"", "[transfer] interface: whoever reaches"},
        Mistake{"[transfer]\ntrusted_network = 1", "[transfer] trusted_network: must be true"},
        Mistake{"[transfer]\nmode = \"paged\"", "[transfer] mode: must be one of"},
        Mistake{"[cluster]\nlease = \"1s\"", "[cluster] lease: must be a time such as"},
        Mistake{"[log]\nlevel = \"loud\"", "[log] level: must be one of"},
        Mistake{"[worker]\nthreads = 9999", "[worker] threads: must be an integer"},
        Mistake{"model = \"x\"", "c.toml:1: model: must be a section, written [model]"},
        Mistake{"[model\npath = 1", "c.toml:1: not valid TOML"},
        Mistake{"[model]\npath = \"a\"\npath = \"b\"", "c.toml:3: not valid TOML"},
        // These end toml++ itself: characters where none of their kind may be.
        Mistake{"[\x02", "c.toml:1: not valid TOML: control character 0x02"},
        Mistake{"\n\ufef6K", "c.toml:2: not valid TOML: "},
        Mistake{"[[@", "c.toml:1: not valid TOML: "},
        Mistake{"a=1\"'\ufebf\">\t", "c.toml:1: not valid TOML: "},
        Mistake{"é = 1", "c.toml:1: not valid TOML: "},
        Mistake{"[model]\nname = \"\xff\"", "not valid TOML: it is not UTF-8"},
        Mistake{"[worker]\nhost = \"\"", "[worker] host: empty"}));

TEST(Config, AggregatedInstancesNeedNoOtherKey) {
  const auto config = parse_config("[group]\nboth = 3\n", "c.toml");
  ASSERT_TRUE(config) << config.error()[0];
  EXPECT_EQ(config->group.both, 3);
  EXPECT_EQ(config->group.prefill + config->group.decode, 0);
}

TEST(Config, AnyTextIsReadBack) {
  Config config;
  config.model.name = "a\nb\t\"c\\\x01 漢 'd' # e";
  const auto again = parse_config(to_toml(config), "c.toml");
  ASSERT_TRUE(again) << again.error()[0];
  EXPECT_EQ(again->model.name, config.model.name);
  const auto strings =
      parse_config("# über\n[model]\nname = \"\"\"é\"ü\n\"\"\"\npath = 'ö\\' # ä\n", "c.toml");
  ASSERT_TRUE(strings) << strings.error()[0];
  EXPECT_EQ(strings->model.name, "é\"ü\n");
  EXPECT_EQ(strings->model.path, "ö\\");
}

TEST(Config, AllMistakesAreReportedAtOnce) {
  const auto config = parse_config("[prefill]\nslots = 0\n[gateway]\nport = -1\n", "c.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().size(), 2u);
}

}  // namespace
}  // namespace pd::protocol
