#include "protocol/pd_messages.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <variant>

#include "base/mapped_file.h"
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

DecodeRequest some_decode() {
  DecodeRequest m;
  m.id = some_prefill().id;
  m.prompt_tokens = 3;
  m.emitted = {9};
  m.evictions = 2;
  m.streamed = false;
  m.sampling = some_sampling();
  m.descriptor = "d";
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
          Room{3, 29, 70, 40, 16, 256, 1500},
          Vacant{}};
}

TEST(PdMessages, RequestsRoundTrip) {
  const PrefillRequest prefill = some_prefill();
  EXPECT_EQ(decode_prefill_request(encode(prefill)).value(), prefill);
  const DecodeRequest decode = some_decode();
  EXPECT_EQ(decode_decode_request(encode(decode)).value(), decode);
  const LeaseList leases{{prefill.id, {{4, 5}, 6}}};
  EXPECT_EQ(decode_lease_list(encode(leases)).value(), leases);
  for (const LeaseAnswer& answer :
       {LeaseAnswer{leases.held, Room{1, 2, 3, 4, 5, 6, 7}}, LeaseAnswer{{}, std::nullopt}})
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

const LegFrame& message_of(const LegFrame* frame) { return *frame; }
const LegCommand& message_of(const std::optional<LegCommand>& command) { return *command; }

// Every message of `stream`, which is fed in pieces of random sizes.
template <typename Message, typename Reader>
std::vector<Message> read_in_pieces(std::string_view stream, bool byte_by_byte, Rng& rng) {
  Reader reader;
  std::vector<Message> seen;
  while (!stream.empty()) {
    const auto n = std::min<std::size_t>(stream.size(), byte_by_byte ? 1 : 1 + rng.below(60));
    std::string_view piece = stream.substr(0, n);
    stream.remove_prefix(n);
    while (true) {
      auto message = reader.next(piece);
      EXPECT_TRUE(message) << message.error().message;
      if (!message || !*message) break;
      seen.push_back(message_of(*message));
    }
    EXPECT_TRUE(piece.empty());
  }
  EXPECT_TRUE(reader.empty());
  return seen;
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
    const auto seen = read_in_pieces<LegFrame, LegFrameReader>(stream, round == 0, rng);
    ASSERT_EQ(seen.size(), frames.size());
    for (std::size_t i = 0; i < seen.size(); ++i) {
      EXPECT_EQ(seen[i].frame, frames[i]);
      EXPECT_EQ(seen[i].leg, (AttemptId{{7, i}, static_cast<std::uint32_t>(i)}));
    }
  }
}

TEST(LegFrameReader, RefusesHugeAndUnknownFrames) {
  const std::string leg(20, 'x');
  LegFrameReader huge;
  std::string bytes = leg + "\xFF\xFF\xFF\xFF\x01";
  std::string_view input = bytes;
  EXPECT_FALSE(huge.next(input));
  LegFrameReader unknown;
  bytes = leg + std::string("\0\0\0\0\x63", 5);
  input = bytes;
  EXPECT_NE(unknown.next(input).error().message.find("unknown type 99"), std::string::npos);
}

TEST(LegCommandReader, AnyCutOfTheStreamGivesTheSameCommands) {
  DecodeRequest decode;
  decode.id = {{5, 6}, 2};
  decode.prompt_tokens = 3;
  decode.emitted = {9};
  decode.descriptor = "d";
  const CancelLeg cancel{{{1, 2}, 3}};
  std::string stream;
  append_command(stream, some_prefill());
  append_command(stream, cancel);
  append_command(stream, decode);
  Rng rng(5);
  for (int round = 0; round < 200; ++round) {
    const auto seen = read_in_pieces<LegCommand, LegCommandReader>(stream, round == 0, rng);
    EXPECT_EQ(seen, (std::vector<LegCommand>{some_prefill(), cancel, decode}));
  }
}

TEST(LegCommandReader, RefusesHugeUnknownAndMalformedCommands) {
  const auto refusal = [](const std::string& bytes) {
    LegCommandReader reader;
    std::string_view input = bytes;
    const auto command = reader.next(input);
    return command ? std::string("none") : command.error().message;
  };
  EXPECT_NE(refusal("\xFF\xFF\xFF\xFF\x01").find("over the limit"), std::string::npos);
  EXPECT_NE(refusal(std::string("\0\0\0\0\x04", 5)).find("unknown type 4"), std::string::npos);
  EXPECT_NE(refusal(std::string("\0\0\0\0\x03", 5)).find("cancel"), std::string::npos);
  EXPECT_NE(refusal(std::string("\x02\0\0\0\x01\x09\x09", 7)).find("prefill"), std::string::npos);
}

// A wire's new version makes all that a fuzzer has kept a refusal at the first field.
TEST(PdMessages, TheFuzzersInputsBeginWithEachMessage) {
  std::set<std::size_t> frames, commands;
  int prefills = 0, decodes = 0, leases = 0, answers = 0;
  const std::string folder = PD_SOURCE_DIR "/tests/fuzz/corpus/pd_messages_fuzz";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string bytes = read_file(entry.path(), 1 << 20).value();
    prefills += decode_prefill_request(bytes).has_value();
    decodes += decode_decode_request(bytes).has_value();
    leases += decode_lease_list(bytes).has_value();
    answers += decode_lease_answer(bytes).has_value();
    std::string_view rest = bytes;
    LegFrameReader frame_reader;
    for (auto f = frame_reader.next(rest); f && *f; f = frame_reader.next(rest))
      frames.insert((*f)->frame.index());
    rest = bytes;
    LegCommandReader command_reader;
    for (auto c = command_reader.next(rest); c && *c; c = command_reader.next(rest))
      commands.insert((*c)->index());
  }
  EXPECT_GT(std::min({prefills, decodes, leases, answers}), 0);
  EXPECT_EQ(frames.size(), std::variant_size_v<Frame>);
  EXPECT_EQ(commands.size(), std::variant_size_v<LegCommand>);
}

}  // namespace
}  // namespace pd::protocol
