#include "cli/cluster_status.h"

#include <gtest/gtest.h>

namespace pd::cli {
namespace {

TEST(ClusterStatus, ReadsWhatAControllerSays) {
  const auto status = parse_cluster_status(
      R"({"complete":true,"last_trouble":"","instances":[
          {"id":1,"role":"prefill","state":"serving","address":"127.0.0.1:5","trouble":"",
           "status":{"load_fraction":1.0,"fatal":false,"trouble":""}},
          {"id":2,"role":"decode","state":"loading","trouble":"slow",
           "status":{"load_fraction":0.25,"fatal":true,"trouble":"no memory"}}]})");
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->complete);
  ASSERT_EQ(status->instances.size(), 2u);
  EXPECT_TRUE(status->instances[0].serves());
  EXPECT_EQ(status->instances[0].fatal, "");
  EXPECT_EQ(status->instances[1].id, 2);
  EXPECT_EQ(status->instances[1].address, "");
  EXPECT_EQ(status->instances[1].loaded, 0.25);
  EXPECT_EQ(status->instances[1].fatal, "no memory");
}

TEST(ClusterStatus, WhateverElseComesIsAnError) {
  for (const char* body : {"", "x", "[]", "{}", R"({"instances":{}})", R"({"instances":[1]})",
                           R"({"instances":[{}]})", R"({"instances":[{"id":"1"}]})",
                           R"({"instances":[{"id":1.5}]})", R"({"instances":[null]})"})
    EXPECT_FALSE(parse_cluster_status(body)) << body;
  const auto odd = parse_cluster_status(
      R"({"complete":1,"last_trouble":7,"instances":[{"id":1,"role":5,"state":[],"status":"x"},
          {"id":2,"status":{"load_fraction":"much","fatal":"yes"}}]})");
  ASSERT_TRUE(odd);
  EXPECT_FALSE(odd->complete);
  EXPECT_EQ(odd->instances[0].role, "");
  EXPECT_EQ(odd->instances[1].fatal, "");
}

}  // namespace
}  // namespace pd::cli
