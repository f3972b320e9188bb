#include "protocol/pd_messages.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace pd::protocol {
namespace {

SamplingParams some_sampling() {
  SamplingParams p;
  p.temperature = 0.5F;
  p.top_k = 40;
  p.seed = 7;
  p.logit_bias = {{5, -1.5F}};
  p.stop_ids = {2, 3};
  p.stop_strings = {"END", "\n\n"};
  p.logprobs = 3;
  return p;
}

PrefillRequest some_prefill() {
  PrefillRequest m;
  m.id = {{1, 2}, 3};
  m.layout_hash = 99;
  m.deadline_ms = 1000;
  m.tenant_salt = 5;
  m.warm_up = true;
  m.prompt = {1, 2, 3};
  m.emitted = {4};
  m.sampling = some_sampling();
  return m;
}

std::vector<Frame> every_frame() {
  TokensFrame tokens;
  tokens.index = 3;
  tokens.ids = {7, 8};
  tokens.text = "héllo";
  tokens.finish = FinishReason::kStop;
  tokens.logprobs = {{{7, -0.5F}, {{7, -0.5F}, {1, -2.0F}}}, {{8, -1.0F}, {}}};
  Prefilled prefilled;
  prefilled.descriptor = std::string("\0\1\2", 3);
  prefilled.cached_tokens = 16;
  prefilled.prompt_logprobs = tokens.logprobs;
  return {Accepted{},
          Rejected{RejectReason::kDraining, 250},
          tokens,
          prefilled,
          Released{Released::Why::kLeaseEnded},
          Evicted{},
          Joined{10, 1 << 20, 1},
          Fault{ErrorCode::kCorrupt, "layer 3"},
          Room{3, 29, 70, 40, 16, 256}};
}

TEST(PdMessages, RequestsRoundTrip) {
  const PrefillRequest prefill = some_prefill();
  EXPECT_EQ(decode_prefill_request(encode(prefill)).value(), prefill);
  for (const std::uint64_t session : {1ULL, ~0ULL})
    EXPECT_EQ(decode_token_stream_request(encode(TokenStreamRequest{session})),
              TokenStreamRequest{session});
  EXPECT_FALSE(decode_token_stream_request(encode(TokenStreamRequest{0})));
  DecodeRequest decode;
  decode.session = 77;
  decode.id = prefill.id;
  decode.prompt_tokens = 3;
  decode.emitted = {9};
  decode.evictions = 2;
  decode.sampling = some_sampling();
  decode.descriptor = "d";
  EXPECT_EQ(decode_decode_request(encode(decode)).value(), decode);
  const LeaseList leases{{prefill.id, {{4, 5}, 6}}};
  EXPECT_EQ(decode_lease_list(encode(leases)).value(), leases);
  for (const LeaseAnswer& answer :
       {LeaseAnswer{leases.held, Room{1, 2, 3, 4, 5, 6}}, LeaseAnswer{{}, std::nullopt}})
    EXPECT_EQ(decode_lease_answer(encode(answer)).value(), answer);
  EXPECT_FALSE(decode_lease_answer(encode(LeaseAnswer{{}, Room{0, 0, 0, 0, 0, 0}})));
}

TEST(PdMessages, EveryTruncationIsRefusedByName) {
  const std::string whole = encode(some_prefill());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto result = decode_prefill_request(std::string_view(whole).substr(0, n));
    ASSERT_FALSE(result) << n;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(decode_prefill_request(whole + "x"));
}

TEST(PdMessages, ALyingCountDoesNotAllocate) {
  std::string bytes = encode(LeaseList{});
  bytes[2] = '\xFF';  // count low byte
  bytes[5] = '\x7F';  // count high byte
  EXPECT_NE(decode_lease_list(bytes).error().message.find("leases"), std::string::npos);
}

TEST(PdMessages, ValuesOutOfRangeAreRefused) {
  PrefillRequest m = some_prefill();
  m.sampling.top_p = 1.5F;
  EXPECT_NE(decode_prefill_request(encode(m)).error().message.find("top_p"), std::string::npos);
  m = some_prefill();
  m.prompt.clear();
  EXPECT_NE(decode_prefill_request(encode(m)).error().message.find("prompt"), std::string::npos);
}

TEST(FrameReader, AnyCutOfTheStreamGivesTheSameFrames) {
  const std::vector<Frame> frames = every_frame();
  std::string stream;
  for (const auto& frame : frames) append_frame(stream, frame);
  Rng rng(3);
  for (int round = 0; round < 200; ++round) {
    FrameReader reader;
    std::vector<Frame> seen;
    std::string_view rest = stream;
    while (!rest.empty()) {
      const auto n = std::min<std::size_t>(rest.size(), round == 0 ? 1 : 1 + rng.below(60));
      reader.feed(rest.substr(0, n));
      rest.remove_prefix(n);
      while (true) {
        auto frame = reader.next();
        ASSERT_TRUE(frame) << frame.error().message;
        if (!*frame) break;
        seen.push_back(**frame);
      }
    }
    EXPECT_EQ(seen, frames);
    EXPECT_TRUE(reader.empty());
  }
}

TEST(LegFrameReader, AnyCutOfTheStreamGivesTheSameFramesOfTheSameLegs) {
  const std::vector<Frame> frames = every_frame();
  std::string stream;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    append_leg(stream, {{7, i}, static_cast<std::uint32_t>(i)});
    append_frame(stream, frames[i]);
  }
  Rng rng(3);
  for (int round = 0; round < 200; ++round) {
    LegFrameReader reader;
    std::size_t seen = 0;
    std::string_view rest = stream;
    while (!rest.empty()) {
      const auto n = std::min<std::size_t>(rest.size(), round == 0 ? 1 : 1 + rng.below(60));
      reader.feed(rest.substr(0, n));
      rest.remove_prefix(n);
      while (true) {
        auto frame = reader.next();
        ASSERT_TRUE(frame) << frame.error().message;
        if (!*frame) break;
        ASSERT_LT(seen, frames.size());
        EXPECT_EQ((*frame)->frame, frames[seen]);
        EXPECT_EQ((*frame)->leg, (AttemptId{{7, seen}, static_cast<std::uint32_t>(seen)}));
        ++seen;
      }
    }
    EXPECT_EQ(seen, frames.size());
  }
}

TEST(LegFrameReader, RefusesHugeFrames) {
  LegFrameReader huge;
  huge.feed(std::string(20, 'x') + "\xFF\xFF\xFF\xFF\x01");
  EXPECT_FALSE(huge.next());
}

TEST(FrameReader, RefusesHugeAndUnknownFrames) {
  FrameReader huge;
  huge.feed(std::string("\xFF\xFF\xFF\xFF\x01", 5));
  EXPECT_FALSE(huge.next());
  FrameReader unknown;
  unknown.feed(std::string("\0\0\0\0\x63", 5));
  EXPECT_NE(unknown.next().error().message.find("unknown type 99"), std::string::npos);
}

}  // namespace
}  // namespace pd::protocol
