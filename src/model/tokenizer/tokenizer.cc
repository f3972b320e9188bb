#include "model/tokenizer/tokenizer.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "base/mapped_file.h"
#include "model/tokenizer/tokenizer_config.h"
#include "model/tokenizer/tokenizer_gguf.h"
#include "model/tokenizer/tokenizer_json.h"
#include "model/tokenizer/tokenizer_parts.h"

namespace pd::model {
namespace {

using tokenizing::TokenizerParts;

constexpr std::size_t kTextBytesMax = 256u * 1024 * 1024;  // positions in a word have 32 bits

// The working memory of one encode() call.
struct Encoding {
  const TokenizerParts& parts;
  const EncodeOptions& options;
  std::vector<TokenId>& ids;
  tokenizing::PreTokenizer::Scratch pre;
  tokenizing::MergeScratch merge;

  Status text(std::string_view whole) {
    return parts.added.split(whole, false, options.parse_special, [&](auto part) -> Status {
      if (part.id) return token(*part.id);
      return plain(part.text, part.text.data() == whole.data());
    });
  }

  // So many ids, and `more` to come at least.
  Status within(std::size_t more) const {
    if (ids.size() <= options.tokens_max && more <= options.tokens_max - ids.size()) return {};
    return error(ErrorCode::kTooLarge,
                 fmt::format("the text has more than {} tokens", options.tokens_max));
  }

 private:
  Status token(TokenId id) {
    ids.push_back(id);
    return within(0);
  }

  Status plain(std::string_view part, bool first) {
    if (parts.normalizer.empty()) return normal(part, first);
    bool moved_start = false;
    const auto changed = parts.normalizer.apply(std::string(part), pre.regex, moved_start);
    if (!changed) return std::unexpected(changed.error());
    return normal(*changed, first && !moved_start);
  }

  Status normal(std::string_view part, bool first) {
    return parts.added.split(part, true, options.parse_special, [&](auto piece) -> Status {
      if (piece.id) return token(*piece.id);
      return words(piece.text, first && piece.text.data() == part.data());
    });
  }

  Status words(std::string_view part, bool first) {
    if (auto cut = parts.pre_tokenizer.run({part, first}, pre); !cut) return cut;
    for (const auto& piece : pre.pieces) {
      if (auto fits = within(parts.model->fewest_tokens(piece.text.size())); !fits) return fits;
      parts.model->encode(piece.text, merge, ids);
    }
    return within(0);
  }
};

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_huggingface(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  const auto file = folder ? path / "tokenizer.json" : path;
  const auto json = read_file(file, tokenizing::kTokenizerJsonBytesMax);
  if (!json && folder && json.error().code == ErrorCode::kNotFound) {
    return error(ErrorCode::kNotFound,
                 fmt::format("{}: no tokenizer.json; a SentencePiece tokenizer.model alone is not "
                             "read, save it with transformers' AutoTokenizer.save_pretrained",
                             path.string()));
  }
  if (!json) return std::unexpected(json.error());
  auto parts = tokenizing::read_tokenizer_json(*json, file.string());
  if (!parts) return std::unexpected(parts.error());
  const auto config_file = file.parent_path() / "tokenizer_config.json";
  const auto config = read_file(config_file, tokenizing::kTokenizerConfigBytesMax);
  if (!config && config.error().code != ErrorCode::kNotFound) {
    return std::unexpected(config.error());
  }
  if (config) {
    const auto applied = tokenizing::apply_tokenizer_config(*config, config_file.string(), *parts);
    if (!applied) return std::unexpected(applied.error());
  }
  return Tokenizer(std::make_unique<const Impl>(Impl{std::move(*parts)}));
}

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json, const std::string& name) {
  auto parts = tokenizing::read_tokenizer_json(tokenizer_json, name);
  if (!parts) return std::unexpected(parts.error());
  return Tokenizer(std::make_unique<const Impl>(Impl{std::move(*parts)}));
}

Result<Tokenizer> Tokenizer::from_gguf(const Gguf& gguf) {
  auto parts = tokenizing::read_tokenizer_gguf(gguf);
  if (!parts) return std::unexpected(parts.error());
  return Tokenizer(std::make_unique<const Impl>(Impl{std::move(*parts)}));
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > kTextBytesMax) {
    return error(ErrorCode::kTooLarge,
                 fmt::format("the text has {} bytes, more than the limit of {}", text.size(),
                             kTextBytesMax));
  }
  if (!simdjson::validate_utf8(text.data(), text.size())) {
    return error(ErrorCode::kInvalidArgument, "the text is not valid UTF-8");
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 4);
  const auto add = [&](const std::vector<TokenId>& special) {
    if (options.add_special_tokens) ids.insert(ids.end(), special.begin(), special.end());
  };
  add(impl_->before);
  Encoding encoding{*impl_, options, ids, {}, {}};
  if (auto done = encoding.text(text); !done) return std::unexpected(done.error());
  add(impl_->behind);
  if (auto fits = encoding.within(0); !fits) return std::unexpected(fits.error());
  return ids;
}

Result<std::string> Tokenizer::decode(std::span<const TokenId> ids,
                                      bool skip_special_tokens) const {
  std::string out;
  auto state = impl_->decoder.start();
  for (const TokenId id : ids) {
    if (!impl_->vocabulary.contains(id)) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("the token id {} is not in the vocabulary of {}", id, vocab_size()));
    }
    const auto text = impl_->vocabulary.text(id);
    if (!text || (skip_special_tokens && impl_->vocabulary.is_special(id))) continue;
    impl_->decoder.token(state, *text, out);
  }
  impl_->decoder.finish(state, out);
  return out;
}

std::string Tokenizer::token_bytes(TokenId id) const {
  const auto text = impl_->vocabulary.text(id);
  return text ? impl_->decoder.token_bytes(*text) : std::string();
}

bool Tokenizer::is_special(TokenId id) const { return impl_->vocabulary.is_special(id); }

std::optional<TokenId> Tokenizer::id_of(std::string_view token) const {
  return impl_->vocabulary.find(token);
}

int Tokenizer::vocab_size() const { return impl_->vocabulary.size(); }
std::optional<TokenId> Tokenizer::bos() const { return impl_->bos; }
std::optional<TokenId> Tokenizer::eos() const { return impl_->eos; }
std::uint64_t Tokenizer::digest() const { return impl_->digest; }

struct StreamDecoder::State {
  tokenizing::Decoder::State steps;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special_tokens),
      state_(std::make_unique<State>(State{tokenizer.impl_->decoder.start()})) {}
StreamDecoder::StreamDecoder(const StreamDecoder& other)
    : tokenizer_(other.tokenizer_),
      skip_special_(other.skip_special_),
      state_(std::make_unique<State>(*other.state_)) {}
StreamDecoder& StreamDecoder::operator=(const StreamDecoder& other) {
  if (this != &other) *this = StreamDecoder(other);
  return *this;
}
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::append(TokenId id) {
  std::string out;
  const auto& parts = *tokenizer_->impl_;
  const auto text = parts.vocabulary.text(id);
  if (!text || (skip_special_ && parts.vocabulary.is_special(id))) return out;
  parts.decoder.token(state_->steps, *text, out);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  tokenizer_->impl_->decoder.finish(state_->steps, out);
  return out;
}

}  // namespace pd::model
