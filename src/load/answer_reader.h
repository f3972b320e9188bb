// Reads one answer of an OpenAI API as it arrives, streamed or whole: when text came, how much, and
// what the server says of it. Takes whatever an OpenAI-compatible server sends. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "protocol/sse_reader.h"

namespace pd::load {

class AnswerReader {
 public:
  // `keep_text`: text() is wanted.
  AnswerReader(bool streamed, bool keep_text) : streamed_(streamed), keep_text_(keep_text) {}

  void head(int status) { status_ = status; }
  // Body bytes, arrived at `now`.
  void feed(std::string_view bytes, Time now);
  // After the body's end: empty if the answer was whole, else what is wrong with it.
  std::string verdict();

  int status() const { return status_; }
  const std::vector<Time>& pieces() const { return pieces_; }  // when text arrived
  const std::string& text() const { return text_; }
  // The server has said what it counted.
  bool has_usage() const { return has_usage_; }
  std::uint32_t prompt_tokens() const { return prompt_tokens_; }
  std::uint32_t cached_tokens() const { return cached_tokens_; }
  // As the server counts; without its word, pieces of text: one of an answer that comes whole.
  std::uint32_t output_tokens() const;

 private:
  void take_event(std::string_view data, Time now);
  void take_json(std::string_view json, Time now);

  bool streamed_, keep_text_;
  int status_ = 0;
  protocol::SseReader events_;
  std::string body_;  // of an answer that is no stream
  std::vector<Time> pieces_;
  std::string text_;
  std::string problem_;
  std::uint32_t prompt_tokens_ = 0, cached_tokens_ = 0, output_tokens_ = 0;
  bool has_usage_ = false;
  bool spoke_ = false;
  bool done_ = false;  // [DONE] has come
};

}  // namespace pd::load
