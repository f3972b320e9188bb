#include "load/answer_reader.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

namespace pd::load {
namespace {

using Element = simdjson::dom::element;

constexpr std::size_t kBodyBytesMax = 64 << 20;
constexpr std::size_t kProblemBytesMax = 300;

// simdjson's parser holds the memory of its last document: one for all answers of a thread.
simdjson::dom::parser& parser() {
  thread_local simdjson::dom::parser kept;
  return kept;
}

std::string_view text_in(const Element& object, const char* key) {
  std::string_view out;
  if (object[key].get(out) != simdjson::SUCCESS) return {};
  return out;
}

std::uint32_t count_in(const Element& object, const char* key) {
  std::uint64_t out = 0;
  if (object[key].get(out) != simdjson::SUCCESS) return 0;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(out, UINT32_MAX));
}

std::string message_in(const Element& json) {
  Element error;
  std::string_view message;
  if (json["error"].get(error) != simdjson::SUCCESS || error.is_null()) return {};
  if (error["message"].get(message) == simdjson::SUCCESS) return std::string(message);
  if (error.get(message) == simdjson::SUCCESS) return std::string(message);
  return "an error without a message";
}

}  // namespace

void AnswerReader::feed(std::string_view bytes, Time now) {
  if (streamed_ && status_ == 200) {
    if (!events_.feed(bytes, [&](std::string_view data) { take_event(data, now); }) &&
        problem_.empty())
      problem_ = "an event of the stream is too long";
    return;
  }
  if (body_.size() + bytes.size() <= kBodyBytesMax) body_.append(bytes);
  if (pieces_.size() < 2) pieces_.assign(1, now);
  pieces_.back() = now;
}

void AnswerReader::take_event(std::string_view data, Time now) {
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  take_json(data, now);
}

void AnswerReader::take_json(std::string_view text, Time now) {
  Element json;
  if (parser().parse(text.data(), text.size()).get(json) != simdjson::SUCCESS) {
    if (problem_.empty()) problem_ = "the answer holds what is not JSON";
    return;
  }
  if (std::string message = message_in(json); !message.empty() && problem_.empty())
    problem_ = std::move(message);
  bool spoke = false;
  const auto say = [&](std::string_view piece) {
    spoke = spoke || !piece.empty();
    if (keep_text_) text_.append(piece);
  };
  simdjson::dom::array choices;
  if (json["choices"].get(choices) == simdjson::SUCCESS) {
    for (const Element choice : choices) {
      say(text_in(choice, "text"));
      Element message;
      if (choice["delta"].get(message) != simdjson::SUCCESS &&
          choice["message"].get(message) != simdjson::SUCCESS)
        continue;
      say(text_in(message, "content"));
      // Thoughts and calls are output like any other, but no part of what was said.
      spoke = spoke || !text_in(message, "reasoning_content").empty() ||
              !text_in(message, "reasoning").empty();
      simdjson::dom::array calls;
      spoke = spoke || (message["tool_calls"].get(calls) == simdjson::SUCCESS && calls.size() > 0);
    }
  }
  spoke_ = spoke_ || spoke;
  if (spoke && streamed_) pieces_.push_back(now);
  Element usage;
  if (json["usage"].get(usage) != simdjson::SUCCESS || !usage.is_object()) return;
  has_usage_ = true;
  prompt_tokens_ = count_in(usage, "prompt_tokens");
  output_tokens_ = count_in(usage, "completion_tokens");
  Element details;
  if (usage["prompt_tokens_details"].get(details) == simdjson::SUCCESS)
    cached_tokens_ = count_in(details, "cached_tokens");
}

std::string AnswerReader::verdict() {
  if (!streamed_ || status_ != 200) {
    const Time end = pieces_.empty() ? Time{} : pieces_.back();
    take_json(body_, end);
  }
  if (status_ != 200) {
    const std::string& what = problem_.empty() ? body_ : problem_;
    return fmt::format("HTTP {}: {}", status_, what.substr(0, kProblemBytesMax));
  }
  if (!problem_.empty()) return problem_.substr(0, kProblemBytesMax);
  if (streamed_ && !done_) return "the stream ended before [DONE]";
  if (output_tokens() == 0) return "the answer is empty";
  return {};
}

std::uint32_t AnswerReader::output_tokens() const {
  if (output_tokens_ > 0) return output_tokens_;
  return streamed_ ? static_cast<std::uint32_t>(pieces_.size()) : std::uint32_t{spoke_};
}

}  // namespace pd::load
