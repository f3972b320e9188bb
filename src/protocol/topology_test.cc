#include "protocol/topology.h"

#include <gtest/gtest.h>

namespace pd::protocol {
namespace {

TEST(Topology, RoundTrips) {
  Topology topology;
  topology.revision = 7;
  topology.fence = 2;
  topology.layout_hash = 0xFFFFFFFFFFFFFFFFu;
  topology.instances = {
      {WorkerId(1), BootId(~0ull), "127.0.0.1:1", Role::kPrefill, 4, 0, true},
      {WorkerId(2), BootId(5), "127.0.0.1:2", Role::kDecode, 0, 32, false}};
  EXPECT_EQ(parse_topology(to_json(topology)).value(), topology);
}

TEST(Topology, RefusesWhatItDoesNotUnderstand) {
  for (
      const char* bad :
      {"", "[]", "{}", R"({"revision":-1})",
       R"({"revision":1,"fence":1,"layout_hash":"zz","instances":[]})",
       R"({"revision":1,"fence":1,"layout_hash":"0","instances":[{"id":1}]})",
       R"({"revision":1,"fence":1,"layout_hash":"0","instances":[{"id":1,"boot":"1","address":"a","role":"king","slots":1,"batch_places":1,"admits":true}]})"}) {
    EXPECT_FALSE(parse_topology(bad)) << bad;
  }
}

}  // namespace
}  // namespace pd::protocol
