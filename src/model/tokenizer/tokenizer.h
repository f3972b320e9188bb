// Text to token ids and back, exactly as the model's vendor does it: `tokenizer.json` (byte-level
// BPE and SentencePiece-style BPE with byte fallback) and the tokenizers embedded in GGUF files.
// Immutable after creation; every const member may be called from several threads at once.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace pd::model {

class Gguf;

struct EncodeOptions {
  bool add_special_tokens = true;  // the post-processor's (bos, eos)
  bool parse_special = true;       // special tokens written in the text become their ids
  // A text with more ends as kTooLarge, after work for about so many and not for all of it.
  std::size_t tokens_max = SIZE_MAX;
};

class Tokenizer {
 public:
  // `path`: a tokenizer.json, or a folder that holds one (tokenizer_config.json beside it is read
  // for bos, eos and add_bos_token when the post-processor leaves them open).
  static Result<Tokenizer> from_huggingface(const std::filesystem::path& path);
  static Result<Tokenizer> from_json(std::string_view tokenizer_json, const std::string& name);
  static Result<Tokenizer> from_gguf(const Gguf& gguf);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Linear in the text's length. Invalid UTF-8 is kInvalidArgument.
  Result<std::vector<TokenId>> encode(std::string_view text, EncodeOptions options = {}) const;

  // Whole-sequence decoding. Bytes that do not form UTF-8 become U+FFFD. An id outside the
  // vocabulary is kInvalidArgument.
  Result<std::string> decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  // The raw bytes of one token as it appears inside a text (for logprobs' `bytes`), empty when
  // unknown.
  std::string token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  std::optional<TokenId> id_of(
      std::string_view token) const;  // by its exact vocabulary or added-token text

  int vocab_size() const;  // largest id + 1
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;

  // Identity of vocabulary and rules: part of what P and D compare before they pair (G10).
  std::uint64_t digest() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// Decodes one sequence token by token; pieces concatenate to decode(ids, skip_special_tokens). Text
// is handed out as soon as it cannot change: never a broken character. The tokenizer must outlive
// it. Copying costs an allocation or two; one thread at a time.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = true);
  StreamDecoder(const StreamDecoder& other);
  StreamDecoder& operator=(const StreamDecoder& other);
  StreamDecoder(StreamDecoder&&) noexcept;  // the source may then only be assigned or destroyed
  StreamDecoder& operator=(StreamDecoder&&) noexcept;
  ~StreamDecoder();

  // Text that became final with this token; often empty inside a multi-token character. With byte
  // fallback (Llama 2) a run of byte tokens waits for its end: an invalid byte spoils the whole
  // run. An id outside the vocabulary adds nothing.
  std::string append(TokenId id);
  // The rest: incomplete bytes as U+FFFD. Ends the stream: call it once, last.
  std::string finish();

 private:
  struct State;
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::unique_ptr<State> state_;  // what the decoder's steps hold back
};

}  // namespace pd::model
