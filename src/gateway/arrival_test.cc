#include "gateway/arrival.h"

#include <gtest/gtest.h>

namespace pd::gateway {
namespace {

TEST(Arrival, TakesAClientsIdOfVisibleCharacters) {
  EXPECT_EQ(client_id_of("a/b-1~"), "a/b-1~");
  EXPECT_EQ(client_id_of(std::string(128, 'x')), std::string(128, 'x'));
  EXPECT_EQ(client_id_of(std::string(129, 'x')), "");
  EXPECT_EQ(client_id_of("a b"), "");
  EXPECT_EQ(client_id_of("caf\xC3\xA9"), "");
}

TEST(Arrival, TakesTheTraceOfATraceparent) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  EXPECT_EQ(trace_id_of("00-" + trace + "-00f067aa0ba902b7-01"), trace);
  EXPECT_EQ(trace_id_of("cc-" + trace + "-00f067aa0ba902b7-01-more"), trace);
  for (const std::string& bad :
       {std::string(), "00-" + trace + "-00f067aa0ba902b7-01-more",
        "cc-" + trace + "-00f067aa0ba902b7-01more", "ff-" + trace + "-00f067aa0ba902b7-01",
        "00-" + std::string(32, '0') + "-00f067aa0ba902b7-01",
        "00-" + trace + "-" + std::string(16, '0') + "-01",
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
        "00_" + trace + "-00f067aa0ba902b7-01", "00-" + trace + "-00f067aa0ba902b7-0"})
    EXPECT_EQ(trace_id_of(bad), "") << bad;
}

TEST(Arrival, IsWhatTheRequestSays) {
  net::HttpRequest request;
  request.target = "/v1/completions?x=1";
  request.peer = "127.0.0.1:5";
  request.headers = {{"x-request-id", "mine"}};
  request.body = "abc";
  const Arrival arrival = arrival_of(request, "cmpl-1");
  EXPECT_EQ(arrival.id, "cmpl-1");
  EXPECT_EQ(arrival.client_id, "mine");
  EXPECT_EQ(arrival.trace_id, "");
  EXPECT_EQ(arrival.endpoint, "/v1/completions");
  EXPECT_EQ(arrival.body, Bytes(3));
}

}  // namespace
}  // namespace pd::gateway
