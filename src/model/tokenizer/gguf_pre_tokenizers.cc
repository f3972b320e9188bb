#include "model/tokenizer/gguf_pre_tokenizers.h"

#include <algorithm>

namespace pd::model::tokenizing {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
    R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kDigits3 = R"(\p{N}{1,3})";
constexpr std::string_view kHanKana = R"([一-龥぀-ゟ゠-ヿ]+)";
constexpr std::string_view kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// llama.cpp's rule for files without a name of their own; no vendor uses it.
constexpr std::string_view kDefaultPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kDefaultNumber = R"(\p{N}+)";
constexpr std::string_view kDefaultThree = R"([0-9][0-9][0-9])";

constexpr std::array kTable = {
    GgufPreTokenizer{"default", {kDefaultPunctuation, kGpt2, kDefaultNumber, kDefaultThree}},
    GgufPreTokenizer{"gpt-2", {kGpt2}},
    GgufPreTokenizer{"phi-2", {kGpt2}},
    GgufPreTokenizer{"olmo", {kGpt2}},
    GgufPreTokenizer{"mpt", {kGpt2}},
    GgufPreTokenizer{"llama3", {kLlama3}, true, true},
    GgufPreTokenizer{"llama-v3", {kLlama3}, true, true},
    GgufPreTokenizer{"llama-bpe", {kLlama3}, true, true},
    GgufPreTokenizer{"falcon3", {kLlama3}, true, true},
    GgufPreTokenizer{"pixtral", {kLlama3}, true, true},
    GgufPreTokenizer{"dbrx", {kLlama3}},
    GgufPreTokenizer{"smaug-bpe", {kLlama3}},
    GgufPreTokenizer{"smollm", {kDigit, kGpt2}},
    GgufPreTokenizer{"starcoder", {kDigit, kGpt2}},
    GgufPreTokenizer{"refact", {kDigit, kGpt2}},
    GgufPreTokenizer{"command-r", {kDigit, kGpt2}, false, false, true},
    GgufPreTokenizer{"codeshell", {kDigit, kGpt2}},
    GgufPreTokenizer{"qwen2", {kQwen2}, false, false, true},
    GgufPreTokenizer{"deepseek-r1-qwen", {kQwen2}, false, false, true},
    GgufPreTokenizer{"megrez", {kQwen2}, false, false, true},
    GgufPreTokenizer{"stablelm2", {kQwen2}, false, false, true},
    GgufPreTokenizer{"qwen35", {kQwen35}, false, false, true},
    GgufPreTokenizer{"tekken", {kTekken}, true, true},
    GgufPreTokenizer{"gpt-4o", {kGpt4o}},
    GgufPreTokenizer{"llama4", {kGpt4o}},
    GgufPreTokenizer{"deepseek-v3", {kDigits3, kHanKana, kDeepseek3}},
};

}  // namespace

const GgufPreTokenizer* gguf_pre_tokenizer(std::string_view name) {
  const auto found = std::ranges::find(kTable, name, &GgufPreTokenizer::name);
  return found == kTable.end() ? nullptr : &*found;
}

}  // namespace pd::model::tokenizing
