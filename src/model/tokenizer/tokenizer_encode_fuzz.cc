// A byte that chooses a tokenizer, then a text for it. Vocabularies are small: bytes or byte
// tokens, and a few merges, so that every path of the merge loop is near.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/gguf_pre_tokenizers.h"
#include "model/tokenizer/tokenizer_fuzz_checks.h"

namespace pd::model {
namespace {

using nlohmann::json;

json byte_model() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[tokenizing::byte_character(static_cast<unsigned char>(byte))] = byte;
  }
  json merges = json::array();
  const auto merge = [&](const char* left, const char* right) {
    vocab.emplace(std::string(left) + right, vocab.size());
    merges.push_back({left, right});
  };
  merge("a", "a");
  merge("aa", "aa");
  merge("Ġ", "Ġ");
  merge("t", "h");
  merge("Ġ", "th");
  merge("Ã", "©");
  return {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
}

json byte_level(bool prefix, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", use_regex}};
}

json split(std::string_view expression) {
  const json cut = {{"type", "Split"},
                    {"pattern", {{"Regex", expression}}},
                    {"behavior", "Isolated"},
                    {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {cut, byte_level(false, false)}}};
}

json added(const char* content, bool normalized, bool strip, bool special) {
  return {{"id", 0},         {"content", content}, {"single_word", strip},    {"lstrip", strip},
          {"rstrip", strip}, {"special", special}, {"normalized", normalized}};
}

json fallback_document(const json& normalizer, const json& pre_tokenizer) {
  json vocab = {{"<unk>", 0}};
  for (int byte = 0; byte < 256; ++byte) {
    vocab[tokenizing::fallback_token(static_cast<unsigned char>(byte))] = 1 + byte;
  }
  for (const char* text : {"▁", "a", "b", "▁a", "aa", "▁▁", "é"}) {
    vocab.emplace(text, vocab.size());
  }
  const json merges = {"▁ a", "a a", "▁ ▁"};
  const json unmark = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const json steps = {unmark, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip};
  return {
      {"added_tokens", {added("<s>", false, false, true), added("a b", true, true, false)}},
      {"normalizer", normalizer},
      {"pre_tokenizer", pre_tokenizer},
      {"decoder", {{"type", "Sequence"}, {"decoders", steps}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}, {"byte_fallback", true}}}};
}

std::vector<Tokenizer> make_tokenizers() {
  log::configure("fuzz", log::Level::kOff);  // the ids of added tokens are not the point
  std::vector<json> documents;
  const auto byte = [&](const json& pre_tokenizer, const json& normalizer) {
    documents.push_back(
        {{"added_tokens", {added("<s>", false, false, true), added("th<", true, true, false)}},
         {"normalizer", normalizer},
         {"pre_tokenizer", pre_tokenizer},
         {"decoder", byte_level(false, false)},
         {"model", byte_model()}});
  };
  byte(byte_level(true, true), nullptr);
  for (const char* name : {"llama-bpe", "tekken", "gpt-4o", "deepseek-v3", "qwen35"}) {
    const auto* known = tokenizing::gguf_pre_tokenizer(name);
    byte(split(known->expressions[0]), {{"type", name == std::string("tekken") ? "NFC" : "NFKD"}});
  }
  const json mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  const json prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  documents.push_back(
      fallback_document({{"type", "Sequence"}, {"normalizers", {prepend, mark}}}, nullptr));
  documents.push_back(fallback_document(
      {{"type", "Lowercase"}},
      {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", true}}));
  std::vector<Tokenizer> out;
  for (const json& document : documents) {
    auto made = Tokenizer::from_json(document.dump(), "fuzz");
    CHECK(made.has_value());
    out.push_back(std::move(*made));
  }
  return out;
}

}  // namespace
}  // namespace pd::model

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<pd::model::Tokenizer> kTokenizers = pd::model::make_tokenizers();
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  pd::model::check_tokenizer(kTokenizers[data[0] % kTokenizers.size()], text);
  return 0;
}
