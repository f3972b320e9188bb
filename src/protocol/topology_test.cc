#include "protocol/topology.h"

#include <gtest/gtest.h>

#include "protocol/control_messages.h"

namespace pd::protocol {
namespace {

TEST(Topology, RoundTrips) {
  Topology topology;
  topology.revision = 7;
  topology.fence = 2;
  topology.layout_hash = 0xFFFFFFFFFFFFFFFFu;
  topology.gateways = 4;
  topology.instances = {
      {WorkerId(1), BootId(~0ull), "127.0.0.1:1", Role::kPrefill, 4, 0, true},
      {WorkerId(2), BootId(5), "127.0.0.1:2", Role::kDecode, 0, 32, false, Tokens(384)}};
  EXPECT_EQ(parse_topology(to_json(topology)).value(), topology);
}

TEST(Topology, RefusesWhatItDoesNotUnderstand) {
  for (
      const char* bad :
      {"", "[]", "{}", R"({"revision":-1})",
       R"({"revision":1,"fence":1,"layout_hash":"0","gateways":-1,"instances":[]})",
       R"({"revision":1,"fence":1,"layout_hash":"zz","gateways":1,"instances":[]})",
       R"({"revision":1,"fence":1,"layout_hash":"0","gateways":1,"instances":[{"id":1}]})",
       R"({"revision":1,"fence":1,"layout_hash":"0","gateways":1,"instances":[{"id":1,"boot":"1","address":"a","role":"king","slots":1,"batch_places":1,"admits":true,"kv_tokens":0}]})"}) {
    EXPECT_FALSE(parse_topology(bad)) << bad;
  }
}

TEST(Topology, TheLargestDecodeInstanceBoundsWhatIsServed) {
  Topology topology;
  EXPECT_EQ(kv_max(topology), Tokens(0));
  const auto add = [&](Role role, std::int64_t tokens) {
    topology.instances.push_back({.role = role, .kv_max = Tokens(tokens)});
  };
  add(Role::kPrefill, 0);
  add(Role::kDecode, 384);
  add(Role::kBoth, 512);
  EXPECT_EQ(kv_max(topology), Tokens(512));
  add(Role::kDecode, 0);
  EXPECT_EQ(kv_max(topology), Tokens(0)) << "it may hold more";
}

TEST(ControlMessages, RoundTrip) {
  const Registration registration{WorkerId(3), BootId(~0ull), "127.0.0.1:5",
                                  std::string("\0\xFF", 2)};
  EXPECT_EQ(parse_registration(to_json(registration)).value(), registration);
  const Assignment assignment{Role::kDecode, 7, {{BootId(1), "abc"}, {BootId(2), ""}}};
  EXPECT_EQ(parse_assignment(to_json(assignment)).value(), assignment);
  WorkerStatus status;
  status.id = WorkerId(9);
  status.role = Role::kBoth;
  status.load_fraction = 0.5;
  status.trouble = "loading \"weights\"";
  status.blocks_total = 100;
  status.block_tokens = 16;
  EXPECT_EQ(parse_worker_status(to_json(status)).value(), status);
}

TEST(ControlMessages, NameTheFieldThatIsWrong) {
  EXPECT_NE(
      parse_assignment(R"({"role":"king","fence":1,"peers":[]})").error().message.find("'role'"),
      std::string::npos);
  EXPECT_NE(parse_assignment(R"({"role":"decode","fence":1,"peers":[{"boot":"x"}]})")
                .error()
                .message.find("'boot'"),
            std::string::npos);
  EXPECT_NE(parse_registration("[1]").error().message.find("the object"), std::string::npos);
  EXPECT_FALSE(parse_worker_status("{}"));
}

}  // namespace
}  // namespace pd::protocol
