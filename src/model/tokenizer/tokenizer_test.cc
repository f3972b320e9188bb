#include "model/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/test_files.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/normalizer.h"

namespace pd::model {
namespace {

using nlohmann::json;
using Ids = std::vector<TokenId>;

// Byte level: the 256 bytes, "th", "the"; <s> 258, </s> 259, <note> 260 (not special).
json byte_level_document() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[tokenizing::byte_character(static_cast<unsigned char>(byte))] = byte;
  }
  vocab["th"] = 256;
  vocab["the"] = 257;
  const auto added = [](int id, const char* content, bool special) {
    return json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", special}};
  };
  const json step = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
  return {{"version", "1.0"},
          {"added_tokens",
           {added(258, "<s>", true), added(259, "</s>", true), added(260, "<note>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", step},
          {"post_processor", nullptr},
          {"decoder", step},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"t h", "th e"}}}}};
}

// SentencePiece style: <unk>, <s>, </s>, the bytes at 3, then marks and letters.
json byte_fallback_document() {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    vocab[tokenizing::fallback_token(static_cast<unsigned char>(byte))] = 3 + byte;
  }
  for (const char* text : {"▁", "a", "b", "▁a"}) vocab[text] = vocab.size();
  json added = json::array();
  for (const char* text : {"<unk>", "<s>", "</s>"}) {
    added.push_back({{"id", vocab[text]},
                     {"content", text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const auto replace = [](const char* from, const char* to) {
    return json{{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
  };
  const json prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  return {
      {"added_tokens", added},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", {prepend, replace(" ", "▁")}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders", {replace("▁", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", vocab},
        {"merges", json::array({json::array({"▁", "a"})})},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true}}}};
}

Tokenizer make(const json& document) {
  auto made = Tokenizer::from_json(document.dump(), "tokenizer.json");
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

TEST(Tokenizer, SpecialTokensInTheTextStayTextOnRequest) {
  const Tokenizer tokenizer = make(byte_level_document());
  EXPECT_EQ(*tokenizer.encode("the<s>"), (Ids{257, 258}));
  EXPECT_EQ(*tokenizer.encode("the<s>", {true, false}), (Ids{257, '<', 's', '>'}));
  EXPECT_EQ(*tokenizer.encode("<note>", {true, false}), (Ids{260}));  // not special
}

// A hundred megabytes in one word would take a minute; that they are too many is plain at once.
TEST(Tokenizer, ATextThatIsTooLongIsNotEncodedToItsEnd) {
  const Tokenizer tokenizer = make(byte_level_document());
  for (const std::string& text : {std::string(100 << 20, 'a'), [] {
                                    std::string words;
                                    while (words.size() < (10u << 20)) words += "word 12 ";
                                    return words;
                                  }()}) {
    const auto ids = tokenizer.encode(text, {.tokens_max = 1000});
    ASSERT_FALSE(ids);
    EXPECT_EQ(ids.error().code, ErrorCode::kTooLarge);
    EXPECT_EQ(ids.error().message, "the text has more than 1000 tokens");
  }
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer tokenizer = make(byte_level_document());
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.id_of("</s>"), 259);
  EXPECT_EQ(tokenizer.id_of("Ġ"), 0x20);
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(258));
  EXPECT_FALSE(tokenizer.is_special(260));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(1'000'000));
  EXPECT_EQ(tokenizer.token_bytes(257), "the");
  EXPECT_EQ(tokenizer.token_bytes(0xC3), "\xC3");
  EXPECT_EQ(tokenizer.token_bytes(9999), "");
  const Tokenizer fallback = make(byte_fallback_document());
  EXPECT_EQ(fallback.token_bytes(3 + 0xE4), "\xE4");
  EXPECT_EQ(fallback.token_bytes(*fallback.id_of("▁a")), " a");
}

TEST(Tokenizer, DecodingSkipsSpecialTokensOnRequest) {
  const Tokenizer tokenizer = make(byte_level_document());
  const Ids ids = {258, 257, 260, 259};
  EXPECT_EQ(*tokenizer.decode(ids, false), "<s>the<note></s>");
  EXPECT_EQ(*tokenizer.decode(ids, true), "the<note>");
}

TEST(Tokenizer, WrongInputIsAnErrorThatSaysWhy) {
  const Tokenizer tokenizer = make(byte_level_document());
  const auto text = tokenizer.encode("a\xFF");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(text.error().message, "the text is not valid UTF-8");
  for (const TokenId id : {-1, 261}) {
    const auto decoded = tokenizer.decode(Ids{id}, false);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(decoded.error().message.find(std::to_string(id)), std::string::npos);
  }
}

TEST(StreamDecoder, HandsOutACharacterWhenItIsWhole) {
  const Tokenizer tokenizer = make(byte_level_document());
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.append(0xE4), "");
  EXPECT_EQ(stream.append(0xB8), "");
  EXPECT_EQ(stream.append(0xAD), "中");
  EXPECT_EQ(stream.append(0xF0), "");
  EXPECT_EQ(stream.append('a'), "\uFFFDa");  // the part before it can no longer become one
  EXPECT_EQ(stream.append(9999), "");
  EXPECT_EQ(stream.append(0xE4), "");
  EXPECT_EQ(stream.append(0xB8), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(StreamDecoder, ARunOfFallbackBytesWaitsForItsEnd) {
  const Tokenizer tokenizer = make(byte_fallback_document());
  const TokenId a = *tokenizer.id_of("a");
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.append(*tokenizer.id_of("▁a")), "a");  // the leading space goes
  EXPECT_EQ(stream.append(*tokenizer.id_of("▁a")), " a");
  EXPECT_EQ(stream.append(3 + 0xC3), "");
  EXPECT_EQ(stream.append(3 + 0xA9), "");
  EXPECT_EQ(stream.append(a), "éa");
  EXPECT_EQ(stream.append(3 + 0xC3), "");
  EXPECT_EQ(stream.append(3 + 0xA9), "");
  EXPECT_EQ(stream.append(3 + 0xA9), "");
  EXPECT_EQ(stream.append(a), "\uFFFD\uFFFD\uFFFDa");  // one byte too many spoils the run
  EXPECT_EQ(stream.append(3 + 0xC3), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(StreamDecoder, ACopyGoesItsOwnWay) {
  const Tokenizer tokenizer = make(byte_level_document());
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.append(0xC3), "");
  StreamDecoder copy = stream;
  EXPECT_EQ(stream.append(0xA9), "é");
  EXPECT_EQ(copy.append('x'), "\uFFFDx");
  copy = stream;
  EXPECT_EQ(copy.finish(), "");
}

TEST(Tokenizer, EqualRulesHaveEqualDigests) {
  json document = byte_level_document();
  const Tokenizer one = make(document);
  auto same = Tokenizer::from_json(document.dump(2), "other name");  // other white space
  ASSERT_TRUE(same);
  EXPECT_EQ(one.digest(), same->digest());
  document["model"]["merges"] = {"t h"};
  EXPECT_NE(one.digest(), make(document).digest());
}

TEST(TokenizerFolder, ConfigNamesBosAndEosAndFillsInForAPostProcessor) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", byte_level_document().dump());
  folder.write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>",
      "add_bos_token": true, "model_max_length": 1000000000000000019884624838656})");
  const auto tokenizer = Tokenizer::from_huggingface(folder.path());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->bos(), 258);
  EXPECT_EQ(tokenizer->eos(), 259);
  EXPECT_EQ(*tokenizer->encode("the"), (Ids{258, 257}));
  EXPECT_EQ(*tokenizer->encode("the", {false, true}), (Ids{257}));
  EXPECT_NE(tokenizer->digest(), make(byte_level_document()).digest());

  folder.write("tokenizer_config.json", R"({"bos_token": "<bos>"})");
  const auto wrong = Tokenizer::from_huggingface(folder.path());
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("tokenizer_config.json.bos_token: '<bos>' is not"),
            std::string::npos)
      << wrong.error().message;
}

TEST(TokenizerFolder, WithoutTokenizerJsonSaysWhatToDo) {
  const test::TempFolder folder;
  const auto tokenizer = Tokenizer::from_huggingface(folder.path());
  ASSERT_FALSE(tokenizer);
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kNotFound);
  EXPECT_NE(tokenizer.error().message.find("save_pretrained"), std::string::npos);
}

// A change to the document, and what the message must name.
struct Breakage {
  const char* pointer;
  const char* value;
  ErrorCode code;
  const char* named;
};

TEST(TokenizerJson, AnErrorNamesTheField) {
  constexpr ErrorCode kWrong = ErrorCode::kInvalidArgument;
  constexpr ErrorCode kNo = ErrorCode::kUnsupported;
  const std::vector<Breakage> breakages = {
      {"/model/type", R"("Unigram")", kNo, "t.json.model.type: the model 'Unigram'"},
      {"/model/dropout", "0.1", kNo, "t.json.model.dropout"},
      {"/model/end_of_word_suffix", R"("</w>")", kNo, "end_of_word_suffix"},
      {"/model/byte_fallback", "1", kWrong, "t.json.model.byte_fallback: must be true or false"},
      {"/model/vocab", "[]", kWrong, "t.json.model.vocab: must be an object"},
      {"/model/vocab/th", R"("x")", kWrong, "the id of 'th' must be an integer"},
      {"/model/vocab/th", "3", kWrong, "share the id 3"},
      {"/model/merges/1", R"("th x y")", kWrong, "t.json.model.merges[1]"},
      {"/model/merges/1", R"(["th", "Q?"])", kWrong, "'Q?' is not in the vocabulary"},
      {"/model/merges", "null", kWrong, "\"merges\" is missing"},
      {"/normalizer", R"({"type": "Precompiled"})", kNo, "t.json.normalizer: the normalizer type"},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Bert"}]})",
       kNo, "t.json.normalizer.normalizers[1]"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"Regex": "\\b"}, "content": ""})", kNo,
       "t.json.normalizer.pattern.Regex"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})", kNo,
       "t.json.normalizer.pattern.String"},
      {"/normalizer/type", "null", kWrong, "t.json.normalizer: the string \"type\""},
      {"/pre_tokenizer", R"({"type": "BertPreTokenizer"})", kNo, "t.json.pre_tokenizer: the"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd",
                             "invert": false})",
       kNo, "'Odd'"},
      {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})", kWrong, "one character"},
      {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [
           {"type": "ByteLevel", "add_prefix_space": false},
           {"type": "Digits", "individual_digits": true}]})",
       kNo, "t.json.pre_tokenizer.pretokenizers[1]: a step behind ByteLevel"},
      {"/decoder", R"({"type": "WordPiece"})", kNo, "t.json.decoder: the decoder type"},
      {"/decoder",
       R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})", kNo,
       "t.json.decoder.decoders[1]"},
      {"/decoder", R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""})", kNo,
       "Regex"},
      {"/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})", kNo, "start"},
      {"/post_processor", R"({"type": "BertProcessing"})", kNo, "t.json.post_processor"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [
           {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
           "special_tokens": {"<s>": {"id": "<s>", "ids": [999], "tokens": ["<s>"]}}})",
       kWrong, "the id 999 is not in the vocabulary"},
      {"/added_tokens/0/content", "7", kWrong, "t.json.added_tokens[0].content: must be a string"},
      {"/added_tokens/0/lstrip", "null", kWrong, "t.json.added_tokens[0]: the boolean \"lstrip\""},
  };
  for (const Breakage& breakage : breakages) {
    json document = byte_level_document();
    document[json::json_pointer(breakage.pointer)] = json::parse(breakage.value);
    const auto made = Tokenizer::from_json(document.dump(), "t.json");
    ASSERT_FALSE(made) << breakage.pointer << " " << breakage.value;
    EXPECT_EQ(made.error().code, breakage.code) << made.error().message;
    EXPECT_NE(made.error().message.find(breakage.named), std::string::npos) << made.error().message;
  }
}

TEST(TokenizerJson, AMissingUnknownTokenMattersWhereItCanOccur) {
  json document = byte_fallback_document();
  document["model"]["unk_token"] = "?unk";
  const auto made = Tokenizer::from_json(document.dump(), "t.json");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message, "t.json.model: unk_token '?unk' is not in the vocabulary");
  document = byte_level_document();
  document["model"]["unk_token"] = "?unk";
  EXPECT_EQ(*make(document).encode("the"), (Ids{257}));
}

TEST(TokenizerJson, WhatIsNoTokenizerIsRefused) {
  for (const std::string text : {"", "{", "[]", "{}", "null", "\xFF", R"({"model": {}})"}) {
    EXPECT_FALSE(Tokenizer::from_json(text, "t.json")) << text;
  }
  const std::string deep = std::string(10'000, '[') + std::string(10'000, ']');
  const auto made = Tokenizer::from_json(R"({"model": )" + deep + "}", "t.json");
  ASSERT_FALSE(made);
  EXPECT_TRUE(made.error().message.starts_with("t.json: not JSON")) << made.error().message;
}

TEST(TokenizerJson, StepsThatGrowTheTextWithoutEndAreStopped) {
  json document = byte_level_document();
  const json twice = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  document["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
  for (int i = 0; i < 60; ++i) document["normalizer"]["normalizers"].push_back(twice);
  const Tokenizer tokenizer = make(document);
  const auto ids = tokenizer.encode("a");
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, ErrorCode::kTooLarge);

  document = byte_level_document();
  document["decoder"] = {{"type", "Sequence"}, {"decoders", json::array()}};
  for (int i = 0; i < 60; ++i) document["decoder"]["decoders"].push_back(twice);
  EXPECT_FALSE(Tokenizer::from_json(document.dump(), "t.json"));
}

// The tokenizer keys of a GGUF file, for one to be made wrong.
test::GgufFile gguf_file() {
  using test::GgufFile;
  using test::raw;
  const auto list = [](const char* key, std::uint32_t type, const std::vector<std::string>& items) {
    std::string out =
        GgufFile::text(key) + raw(std::uint32_t{9}) + raw(type) + raw(std::uint64_t{items.size()});
    for (const std::string& item : items) out += item;
    return out;
  };
  GgufFile file;
  file.set("tokenizer.ggml.model", GgufFile::str("tokenizer.ggml.model", "llama"));
  file.set("tokenizer.ggml.tokens",
           list("tokenizer.ggml.tokens", 8,
                {GgufFile::text("<unk>"), GgufFile::text("<s>"), GgufFile::text("▁"),
                 GgufFile::text("a"), GgufFile::text("▁a")}));
  file.set("tokenizer.ggml.token_type",
           list("tokenizer.ggml.token_type", 5, {raw(2), raw(3), raw(1), raw(1), raw(1)}));
  file.set("tokenizer.ggml.scores",
           list("tokenizer.ggml.scores", 6, {raw(0.f), raw(0.f), raw(-3.f), raw(-4.f), raw(-1.f)}));
  file.set("tokenizer.ggml.bos_token_id", GgufFile::u32("tokenizer.ggml.bos_token_id", 1));
  file.set("tokenizer.ggml.unknown_token_id", GgufFile::u32("tokenizer.ggml.unknown_token_id", 0));
  return file;
}

Result<Tokenizer> from_gguf(const test::GgufFile& file) {
  const std::string bytes = file.bytes();
  const auto gguf = Gguf::parse(test::as_bytes(bytes), "m.gguf");
  if (!gguf) return std::unexpected(gguf.error());
  return Tokenizer::from_gguf(**gguf);
}

TEST(TokenizerGguf, ReadsAScoredVocabulary) {
  const auto tokenizer = from_gguf(gguf_file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(*tokenizer->encode("a a"), (Ids{1, 4, 4}));
  EXPECT_EQ(*tokenizer->encode("<s>a", {false, true}), (Ids{1, 4}));
  EXPECT_EQ(*tokenizer->encode("z", {false, true}), (Ids{2, 0}));  // no byte tokens: unknown
  EXPECT_EQ(*tokenizer->decode(Ids{1, 4, 4}, true), "a a");
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), std::nullopt);
}

TEST(TokenizerGguf, AnErrorNamesTheKey) {
  using test::GgufFile;
  const auto expect = [](const GgufFile& file, ErrorCode code, std::string_view named) {
    const auto made = from_gguf(file);
    ASSERT_FALSE(made) << named;
    EXPECT_EQ(made.error().code, code) << made.error().message;
    EXPECT_NE(made.error().message.find(named), std::string::npos) << made.error().message;
  };
  GgufFile file = gguf_file();
  file.set("tokenizer.ggml.model", GgufFile::str("tokenizer.ggml.model", "bert"));
  expect(file, ErrorCode::kUnsupported, "m.gguf: tokenizer.ggml.model: 'bert'");
  file = gguf_file();
  file.remove("tokenizer.ggml.scores");
  expect(file, ErrorCode::kInvalidArgument, "tokenizer.ggml.scores");
  file = gguf_file();
  file.remove("tokenizer.ggml.tokens");
  expect(file, ErrorCode::kInvalidArgument, "tokenizer.ggml.tokens is missing");
  file = gguf_file();
  file.set("tokenizer.ggml.bos_token_id", GgufFile::u32("tokenizer.ggml.bos_token_id", 99));
  expect(file, ErrorCode::kInvalidArgument, "tokenizer.ggml.bos_token_id: 99");
  file = gguf_file();
  file.set("tokenizer.ggml.model", GgufFile::str("tokenizer.ggml.model", "gpt2"));
  expect(file, ErrorCode::kInvalidArgument, "tokenizer.ggml.merges");
  file.set("tokenizer.ggml.pre", GgufFile::str("tokenizer.ggml.pre", "own"));
  expect(file, ErrorCode::kUnsupported, "'own' is not supported");
}

// Against the plainest way to write it: short and long contents go different ways.
TEST(WithByteReplaced, IsTheSameForContentsOfAnyLength) {
  const std::string all =
      " x  \xE2\x96\x81y\xFF" + std::string(1, '\0') + " a longer text of words ";
  for (std::size_t length = 0; length < 20; ++length) {
    const std::string content(length, static_cast<char>(0xE0 + length));
    for (std::size_t size = 0; size <= all.size(); ++size) {
      const std::string text = all.substr(0, size);
      std::string expected;
      for (const char c : text) expected += c == ' ' ? content : std::string(1, c);
      EXPECT_EQ(tokenizing::with_byte_replaced(text, ' ', content), expected);
      EXPECT_EQ(tokenizing::with_byte_replaced(text, ' ', content, expected.size()), expected);
      if (expected.empty()) continue;
      EXPECT_EQ(tokenizing::with_byte_replaced(text, ' ', content, expected.size() - 1),
                std::nullopt);
    }
  }
}

TEST(TextMatcher, FindsTheFirstAndLongestWhateverTheBytesThatPatternsBeginWith) {
  const std::string text = "a<<s>b</s>!!<s";
  const auto found = [&](const std::vector<std::string>& patterns) {
    tokenizing::TextMatcher matcher;
    for (std::size_t i = 0; i < patterns.size(); ++i)
      matcher.insert(patterns[i], static_cast<std::uint32_t>(i));
    std::string out;
    for (std::size_t at = 0;;) {
      const auto match = matcher.find(text, at);
      if (!match) return out;
      EXPECT_EQ(text.substr(match->begin, match->end - match->begin), patterns[match->value]);
      out += std::to_string(match->begin) + " ";
      at = match->end;
    }
  };
  EXPECT_EQ(found({}), "");
  EXPECT_EQ(found({"<s>"}), "2 ");
  EXPECT_EQ(found({"<s>", "</s>", "<"}), "1 2 6 12 ");
  EXPECT_EQ(found({"<s>", "!!", "</s>"}), "2 6 10 ");
  EXPECT_EQ(found({"<s", "!", "b"}), "2 5 10 11 12 ");
}

}  // namespace
}  // namespace pd::model
