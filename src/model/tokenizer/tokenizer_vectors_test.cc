// Whole tokenizers against the reference implementation's stored answers.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "model/checkpoint/gguf.h"
#include "model/tokenizer/vector_files.h"

namespace pd::model {
namespace {

using nlohmann::json;
using tokenizing::fnv1a;

std::string hash_text(std::uint64_t hash) { return to_hex(hash); }

std::vector<TokenId> ids_of(const json& value) { return value.get<std::vector<TokenId>>(); }

std::vector<TokenId> encoded(const Tokenizer& tokenizer, const std::string& text,
                             EncodeOptions options) {
  const auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids) << ids.error().message;
  return ids.value_or(std::vector<TokenId>{});
}

// decode() and the stream give `whole` and, without special tokens, `skip`.
void expect_decodes(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                    const std::function<void(const std::string&)>& whole,
                    const std::function<void(const std::string&)>& skip) {
  for (const bool skip_special : {false, true}) {
    const auto text = tokenizer.decode(ids, skip_special);
    ASSERT_TRUE(text) << text.error().message;
    (skip_special ? skip : whole)(*text);
    EXPECT_EQ(tokenizing::streamed(tokenizer, ids, skip_special), *text);
  }
}

void expect_long(const Tokenizer& tokenizer, const std::string& text, const json& line) {
  const auto ids = encoded(tokenizer, text, {false, true});
  EXPECT_EQ(ids.size(), line["count"].get<std::size_t>());
  EXPECT_EQ(hash_text(fnv1a(ids)), line["hash"].get<std::string>());
  const auto plain = encoded(tokenizer, text, {false, false});
  EXPECT_EQ(hash_text(fnv1a(plain)), line.value("plain_hash", line["hash"].get<std::string>()));
  const std::string whole_hash = line.value("text_hash", hash_text(fnv1a(text)));
  const std::string skip_hash = line.value("skip_hash", whole_hash);
  expect_decodes(
      tokenizer, ids, [&](const auto& whole) { EXPECT_EQ(hash_text(fnv1a(whole)), whole_hash); },
      [&](const auto& skip) { EXPECT_EQ(hash_text(fnv1a(skip)), skip_hash); });
}

void expect_short(const Tokenizer& tokenizer, const std::string& text, const json& line) {
  const auto ids = encoded(tokenizer, text, {false, true});
  EXPECT_EQ(ids, ids_of(line["ids"]));
  EXPECT_EQ(encoded(tokenizer, text, {false, false}),
            ids_of(line.contains("plain") ? line["plain"] : line["ids"]));
  const std::string whole = line.value("text", text);
  const std::string skip = line.value("skip", whole);
  expect_decodes(
      tokenizer, ids, [&](const auto& got) { EXPECT_EQ(got, whole); },
      [&](const auto& got) { EXPECT_EQ(got, skip); });
}

// As many tokens as the text has are enough, and one less is too few.
void expect_limited(const Tokenizer& tokenizer, const std::string& text) {
  const std::size_t count = encoded(tokenizer, text, {true, true}).size();
  EXPECT_EQ(encoded(tokenizer, text, {true, true, count}).size(), count);
  if (count == 0) return;
  const auto short_of = tokenizer.encode(text, {true, true, count - 1});
  ASSERT_FALSE(short_of);
  EXPECT_EQ(short_of.error().code, ErrorCode::kTooLarge);
}

void expect_vectors(const Tokenizer& tokenizer, const std::string& name) {
  const auto lines = tokenizing::read_gzip_lines("tests/data/tokenizer/" + name + ".jsonl.gz");
  const auto& texts = tokenizing::test_texts();
  ASSERT_GE(texts.size(), 500u);
  ASSERT_GT(lines.size(), texts.size() + 1);
  const json header = json::parse(lines[0]);
  auto expected = ids_of(header["before"]);
  const auto x = encoded(tokenizer, "x", {false, true});
  const auto behind = ids_of(header["behind"]);
  expected.insert(expected.end(), x.begin(), x.end());
  expected.insert(expected.end(), behind.begin(), behind.end());
  EXPECT_EQ(encoded(tokenizer, "x", {true, true}), expected);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    SCOPED_TRACE(name + ", text " + std::to_string(i) + ": " + texts[i].text.substr(0, 200));
    const json line = json::parse(lines[i + 1]);
    (texts[i].long_recipe ? expect_long : expect_short)(tokenizer, texts[i].text, line);
    expect_limited(tokenizer, texts[i].text);
    if (testing::Test::HasFailure()) return;  // one failing text says enough
  }
  for (std::size_t i = texts.size() + 1; i < lines.size(); ++i) {
    SCOPED_TRACE(name + ", line " + std::to_string(i));
    const json line = json::parse(lines[i]);
    expect_decodes(
        tokenizer, ids_of(line["decode"]),
        [&](const auto& got) { EXPECT_EQ(got, line["text"].get<std::string>()); },
        [&](const auto& got) { EXPECT_EQ(got, line["skip"].get<std::string>()); });
  }
}

// The vendors' files are fetched by tools/fetch_test_tokenizers.sh, which `make test` runs first.
class VendorTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(VendorTokenizer, AgreesWithTheReference) {
  const std::string folder = std::string(PD_SOURCE_DIR) + "/.cache/tokenizers/" + GetParam();
  if (!std::filesystem::exists(folder + "/tokenizer.json")) {
    GTEST_SKIP() << "run tools/fetch_test_tokenizers.sh to fetch " << folder;
  }
  const auto tokenizer = Tokenizer::from_huggingface(folder);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_vectors(*tokenizer, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, VendorTokenizer, testing::Values("llama3_1", "qwen3", "llama2"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(ShippedTokenizer, Stories260KAgreesWithTheReference) {
  const std::string folder = std::string(PD_SOURCE_DIR) + "/assets/models/stories260K";
  const auto tokenizer = Tokenizer::from_huggingface(folder);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  expect_vectors(*tokenizer, "stories260K");
}

Result<Tokenizer> from_packed_gguf(const std::string& path) {
  const std::string bytes = tokenizing::read_gzip(path);
  const auto gguf = Gguf::parse(std::as_bytes(std::span(bytes)), path);
  if (!gguf) return std::unexpected(gguf.error());
  return Tokenizer::from_gguf(**gguf);
}

TEST(GgufTokenizer, SmolLm2AgreesWithTheReference) {
  const auto tokenizer = from_packed_gguf("tests/data/tokenizer/smollm2-vocab.gguf.gz");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  expect_vectors(*tokenizer, "smollm2");
}

// Pairs from llama.cpp: texts between separator lines, and a line of ids (without bos) for each.
class LlamaCppVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(LlamaCppVocabulary, AgreesWithLlamaCpp) {
  const std::string base = std::string("tests/data/tokenizer/llama.cpp/ggml-vocab-") + GetParam();
  const auto tokenizer = from_packed_gguf(base + ".gguf.gz");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const std::string inputs = tokenizing::read_gzip(base + ".gguf.inp");  // reads plain files too
  const auto outputs = tokenizing::read_gzip_lines(base + ".gguf.out");
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::size_t at = 0;
  for (const std::string& output : outputs) {
    const std::size_t end = inputs.find(kSeparator, at);
    ASSERT_NE(end, std::string::npos);
    const std::string text = inputs.substr(at, end - at);
    at = end + kSeparator.size();
    std::vector<TokenId> expected;
    std::istringstream numbers(output);
    for (TokenId id = 0; numbers >> id;) expected.push_back(id);
    const auto ids = encoded(*tokenizer, text, {false, false});
    EXPECT_EQ(ids, expected) << text;
    EXPECT_EQ(tokenizer->decode(ids, false).value_or("?"), text);
    EXPECT_EQ(tokenizing::streamed(*tokenizer, ids, true), text);
  }
  EXPECT_EQ(at, inputs.size());
}

INSTANTIATE_TEST_SUITE_P(All, LlamaCppVocabulary,
                         testing::Values("llama-bpe", "gpt-2", "llama-spm"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// Merges that follow from scores, against SentencePiece itself.
TEST(GgufTokenizer, ScoresAgreeWithSentencePiece) {
  const auto tokenizer =
      from_packed_gguf("tests/data/tokenizer/llama.cpp/ggml-vocab-llama-spm.gguf.gz");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const auto lines = tokenizing::read_gzip_lines("tests/data/tokenizer/llama-spm.jsonl.gz");
  const auto& texts = tokenizing::test_texts();
  ASSERT_EQ(lines.size(), texts.size() + 1);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    SCOPED_TRACE("text " + std::to_string(i) + ": " + texts[i].text.substr(0, 200));
    const json line = json::parse(lines[i + 1]);
    const auto ids = encoded(*tokenizer, texts[i].text, {false, false});
    if (texts[i].long_recipe) {
      EXPECT_EQ(ids.size(), line["count"].get<std::size_t>());
      EXPECT_EQ(hash_text(fnv1a(ids)), line["hash"].get<std::string>());
    } else {
      EXPECT_EQ(ids, ids_of(line["ids"]));
    }
  }
}

// Made-up tokenizers, each with one option of the file format.
TEST(TokenizerComponents, EveryOptionAgreesWithTheReference) {
  const auto lines = tokenizing::read_gzip_lines("tests/data/tokenizer/components.jsonl.gz");
  const json models = json::parse(lines[0])["models"];
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const json entry = json::parse(lines[i]);
    json document = entry["rest"];
    document["model"] = models[entry["model"].get<std::string>()];
    document["model"].update(entry["overrides"]);
    const auto tokenizer = Tokenizer::from_json(document.dump(), "made up");
    SCOPED_TRACE(entry["rest"].dump() + " " + entry["overrides"].dump());
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    for (const json& one : entry["cases"]) {
      const auto ids = ids_of(one[1]);
      SCOPED_TRACE(one[0].dump());
      if (!one[0].is_null()) {
        EXPECT_EQ(encoded(*tokenizer, one[0], {true, true}), ids);
      }
      expect_decodes(
          *tokenizer, ids, [&](const auto& got) { EXPECT_EQ(got, one[2].get<std::string>()); },
          [&](const auto& got) { EXPECT_EQ(got, one[3].get<std::string>()); });
    }
  }
}

}  // namespace
}  // namespace pd::model
