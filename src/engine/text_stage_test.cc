#include "engine/text_stage.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "base/text.h"

namespace pd::engine {
namespace {

using protocol::FinishReason;
using protocol::SamplingParams;

// GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and on.
std::string alphabet_character(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// Token b is the byte b; then the words; then the special tokens.
constexpr TokenId kWords = 256;
const std::vector<std::string> kWordList = {"abc", "bc", "END",  " the", "\xE2\x82\xAC", "\xF0\x9F",
                                            "ab",  "c",  "\n\n", "<|",   "im_end|>"};
constexpr TokenId kEos = kWords + 11;
constexpr TokenId kImEnd = kEos + 1;

model::Tokenizer make_tokenizer() {
  nlohmann::json vocab, added = nlohmann::json::array();
  const auto spelled = [](std::string_view text) {
    std::string out;
    for (const char c : text) out += alphabet_character(static_cast<unsigned char>(c));
    return out;
  };
  for (int b = 0; b < 256; ++b) vocab[alphabet_character(b)] = b;
  TokenId next = kWords;
  // Single bytes are there already.
  for (const std::string& word : kWordList) vocab[word == "c" ? "c c" : spelled(word)] = next++;
  for (const char* special : {"</s>", "<|im_end|>"}) {
    vocab[special] = next;
    added.push_back({{"id", next++},
                     {"content", special},
                     {"special", true},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false}});
  }
  const nlohmann::json file = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
  auto tokenizer = model::Tokenizer::from_json(file.dump(), "test");
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

TokenId word(std::string_view text) {
  for (std::size_t i = 0; i < kWordList.size(); ++i) {
    if (kWordList[i] == text) return kWords + static_cast<TokenId>(i);
  }
  ADD_FAILURE() << text;
  return 0;
}
std::vector<TokenId> bytes(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

class TextStageTest : public testing::Test {
 protected:
  TextStage stage(std::vector<std::string> stops = {}, std::int64_t max_tokens = 1000) {
    params_.stop_strings = std::move(stops);
    params_.max_tokens = Tokens(max_tokens);
    return {tokenizer_, params_, std::vector<TokenId>{kEos}};
  }
  // "text|text|" per token, then the reason.
  static std::string feed(TextStage& stage, const std::vector<TokenId>& ids) {
    std::string out;
    for (const TokenId id : ids) {
      const TextStep step = stage.append(id);
      out += step.text + "|";
      if (step.finish != FinishReason::kNone) {
        return out + (step.finish == FinishReason::kStop ? "stop" : "length");
      }
    }
    return out;
  }

  model::Tokenizer tokenizer_ = make_tokenizer();
  SamplingParams params_;
};

TEST_F(TextStageTest, SendsWhatIsFinalAtOnce) {
  TextStage plain = stage();
  EXPECT_EQ(feed(plain, {word("abc"), word("END"), 'x'}), "abc|END|x|");
}

TEST_F(TextStageTest, WaitsForWholeCharacters) {
  TextStage plain = stage();
  EXPECT_EQ(feed(plain, bytes("a\xE2\x82\xAC")), "a|||\xE2\x82\xAC|");
  TextStage cut = stage({}, 2);
  EXPECT_EQ(feed(cut, bytes("a\xE2")), "a|\xEF\xBF\xBD|length");
}

TEST_F(TextStageTest, AStopStringOverTokensIsNeverSent) {
  TextStage stop = stage({"bcEN"});
  EXPECT_EQ(feed(stop, {'a', 'b', 'c', word("END"), 'x'}), "a||||stop");
  TextStage inside = stage({"b"});
  EXPECT_EQ(feed(inside, {word("abc")}), "a|stop");
  TextStage almost = stage({"bcEX"});
  EXPECT_EQ(feed(almost, {'a', 'b', 'c', word("END")}), "a|||bcEND|");
}

TEST_F(TextStageTest, HoldsBackOnlyWhatCouldStillBecomeAStop) {
  TextStage overlap = stage({"aab"});
  EXPECT_EQ(feed(overlap, bytes("aaaab")), "||a|a||stop");
  TextStage two = stage({"abcd", "bx"});
  EXPECT_EQ(feed(two, bytes("zabx")), "z|||a|stop");
}

TEST_F(TextStageTest, TheFirstCompleteStopCountsAndOfEqualsTheLonger) {
  TextStage first = stage({"abcd", "bc"});
  EXPECT_EQ(feed(first, bytes("abcd")), "||a|stop");
  TextStage longer = stage({"bc", "abc"});
  EXPECT_EQ(feed(longer, bytes("zabc")), "z||||stop");
}

TEST_F(TextStageTest, StopStringsMayBeMultiByte) {
  TextStage euro = stage({"\xE2\x82\xAC!"});
  EXPECT_EQ(feed(euro, bytes("\xE2\x82\xAC\xE2\x82\xAC!x")), "|||||\xE2\x82\xAC||stop");
}

TEST_F(TextStageTest, EosAndStopIdsEndWithoutTextOfTheirOwn) {
  TextStage eos = stage({"abX"});
  EXPECT_EQ(feed(eos, {'a', 'b', kEos}), "||ab|stop");
  params_.stop_ids = {'q'};
  TextStage id = stage();
  EXPECT_EQ(feed(id, {'a', 'q'}), "a||stop");
  params_.ignore_eos = true;
  TextStage on = stage();
  EXPECT_EQ(feed(on, {'a', kEos, 'b', 'q'}), "a||b||stop");
}

TEST_F(TextStageTest, ASpecialTokensOwnTextAsStopStopsAtIt) {
  TextStage whole = stage({"<|im_end|>"});
  EXPECT_EQ(feed(whole, {'a', kImEnd}), "a||stop");
  // Spelled with ordinary tokens it stops as any text.
  TextStage spelled = stage({"<|im_end|>"});
  EXPECT_EQ(feed(spelled, {'a', word("<|"), word("im_end|>")}), "a|||stop");
  // A piece of it does not: special tokens are not part of the text.
  TextStage piece = stage({"im_end"});
  EXPECT_EQ(feed(piece, {'a', kImEnd, 'b'}), "a||b|");
}

TEST_F(TextStageTest, MaxTokensFlushesWhatWasHeld) {
  TextStage length = stage({"bcX"}, 3);
  EXPECT_EQ(feed(length, bytes("abc")), "a||bc|length");
  TextStage both = stage({"c"}, 3);
  EXPECT_EQ(feed(both, bytes("abc")), "a|b||stop");
  TextStage outside = stage({"bcX"});
  EXPECT_EQ(feed(outside, bytes("abc")), "a|||");
  EXPECT_EQ(outside.finish(), "bc");
}

TEST_F(TextStageTest, BeforeMinTokensNothingStops) {
  params_.min_tokens = Tokens(3);
  params_.stop_ids = {'q'};
  TextStage ids = stage({"b"});
  EXPECT_EQ(feed(ids, bytes("abqbc")), "a|b|q||stop");
  TextStage spans = stage({"cd"});
  EXPECT_EQ(feed(spans, bytes("abcd")), "a|b|||stop");
}

TEST_F(TextStageTest, ReplayTellsThatTheRequestWasOver) {
  TextStage a = stage({"bc"});
  EXPECT_EQ(a.replay(bytes("abc")), FinishReason::kStop);
  EXPECT_EQ(feed(a, bytes("x")), "|stop");
  EXPECT_EQ(a.tokens(), 3);
  TextStage b = stage({}, 3);
  EXPECT_EQ(b.replay(bytes("abc")), FinishReason::kLength);
  EXPECT_EQ(b.tokens(), 3);
}

TEST_F(TextStageTest, TokenBytesAreThoseOfTheToken) {
  TextStage plain = stage();
  EXPECT_EQ(plain.append(word("\xF0\x9F")).token_bytes, "\xF0\x9F");
  EXPECT_EQ(plain.append(0xE2).token_bytes, "\xE2");
  EXPECT_EQ(plain.append(kImEnd).token_bytes, "");
}

// The definition: pieces of the decoder one byte after the other, first complete stop string.
struct Expected {
  std::string text;
  FinishReason finish = FinishReason::kNone;
  std::size_t tokens = 0;
};
Expected define(const model::Tokenizer& tokenizer, const SamplingParams& params,
                const std::vector<TokenId>& ids) {
  Expected out;
  model::StreamDecoder decoder(tokenizer);
  const auto add = [&](const std::string& piece) {
    for (const char byte : piece) {
      out.text.push_back(byte);
      std::size_t longest = 0;
      for (const std::string& stop : params.stop_strings) {
        if (out.text.ends_with(stop)) longest = std::max(longest, stop.size());
      }
      if (longest == 0 || static_cast<std::int64_t>(out.tokens) <= params.min_tokens.value()) {
        continue;
      }
      out.text.resize(out.text.size() - longest);
      out.finish = FinishReason::kStop;
      return true;
    }
    return false;
  };
  for (const TokenId id : ids) {
    ++out.tokens;
    if (id == kEos && static_cast<std::int64_t>(out.tokens) > params.min_tokens.value()) {
      out.finish = FinishReason::kStop;
      add(decoder.finish());
      return out;
    }
    if (add(decoder.append(id))) return out;
    if (static_cast<std::int64_t>(out.tokens) == params.max_tokens.value()) {
      out.finish = FinishReason::kLength;
      add(decoder.finish());
      return out;
    }
  }
  add(decoder.finish());
  out.finish = FinishReason::kNone;
  return out;
}

TEST_F(TextStageTest, AnyTokensAnyStopsAnyCutGiveTheSameText) {
  Rng rng(51);
  int stopped = 0, cut_short = 0;
  for (int round = 0; round < 1500; ++round) {
    std::vector<TokenId> ids;
    const std::size_t count = 1 + rng.below(25);
    for (std::size_t i = 0; i < count; ++i) {
      switch (rng.below(4)) {
        case 0:
          ids.push_back(static_cast<TokenId>('a' + rng.below(3)));
          break;
        case 1:
          ids.push_back(kWords + static_cast<TokenId>(rng.below(kWordList.size())));
          break;
        case 2:
          ids.push_back(std::array{0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98}[rng.below(6)]);
          break;
        default:
          ids.push_back(rng.below(8) == 0 ? kEos : static_cast<TokenId>('b'));
      }
    }
    params_ = {};
    params_.max_tokens = Tokens(static_cast<std::int64_t>(1 + rng.below(count + 3)));
    if (rng.below(3) == 0) params_.min_tokens = Tokens(static_cast<std::int64_t>(rng.below(8)));
    for (std::uint64_t s = rng.below(4); s-- > 0;) {
      std::string stop;
      for (std::uint64_t i = 1 + rng.below(5); i-- > 0;) {
        stop += std::array{"a", "b", "c", "\xE2\x82\xAC", "\xEF\xBF\xBD"}[rng.below(5)];
      }
      params_.stop_strings.push_back(stop);
    }
    const Expected want = define(tokenizer_, params_, ids);
    (want.finish == FinishReason::kStop ? stopped : cut_short) += 1;

    TextStage whole(tokenizer_, params_, std::vector<TokenId>{kEos});
    std::vector<std::string> sent;
    FinishReason finish = FinishReason::kNone;
    std::string total;
    for (std::size_t i = 0; i < ids.size() && finish == FinishReason::kNone; ++i) {
      const TextStep step = whole.append(ids[i]);
      finish = step.finish;
      total += step.text;
      sent.push_back(step.text);
      ASSERT_TRUE(is_valid_utf8(step.text));
    }
    if (finish == FinishReason::kNone) total += whole.finish();
    ASSERT_EQ(total, want.text) << round;
    ASSERT_EQ(finish, want.finish);
    ASSERT_EQ(sent.size(), want.tokens);

    for (std::size_t cut = 0; cut < sent.size(); ++cut) {
      TextStage resumed(tokenizer_, params_, std::vector<TokenId>{kEos});
      ASSERT_EQ(resumed.replay(std::span(ids).first(cut)), FinishReason::kNone);
      for (std::size_t i = cut; i < sent.size(); ++i) {
        const TextStep step = resumed.append(ids[i]);
        ASSERT_EQ(step.text, sent[i]) << round << " " << cut << " " << i;
        ASSERT_EQ(step.finish, i + 1 == sent.size() ? want.finish : FinishReason::kNone);
      }
    }
  }
  EXPECT_GT(stopped, 300);
  EXPECT_GT(cut_short, 300);
}

}  // namespace
}  // namespace pd::engine
