#include "bench/token_checker.h"

#include <fmt/format.h>
#include <string.h>  // memmem: string_view::find stops at every quote, of which JSON is full

namespace pd::bench {
namespace {

constexpr std::string_view kData = "data: ";
constexpr std::size_t kShownBytesMax = 200;

// What follows `key` in `line`; empty: it is not there.
std::string_view after(std::string_view line, std::string_view key) {
  const void* found = ::memmem(line.data(), line.size(), key.data(), key.size());
  if (found == nullptr) return {};
  const auto offset = static_cast<std::size_t>(static_cast<const char*>(found) - line.data());
  return line.substr(offset + key.size());
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

void TokenChecker::feed(std::string_view bytes) {
  if (!streamed_) {
    partial_.append(bytes);
    return;
  }
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    if (end == std::string_view::npos) {
      partial_.append(bytes);
      return;
    }
    if (partial_.empty()) {
      take_line(bytes.substr(0, end));
    } else {
      partial_.append(bytes.substr(0, end));
      take_line(partial_);
      partial_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
}

// Only what can be compared byte by byte is looked at: numbers and spaces need no JSON parser, and
// the reader must cost less than the relay that it measures.
void TokenChecker::take_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (streamed_) {
    if (line.empty() || line.starts_with(':')) return;
    if (done_ && fault_.empty()) fault_ = "bytes after [DONE]";
    if (!line.starts_with(kData)) {
      if (fault_.empty()) fault_ = fmt::format("not data: {}", line.substr(0, kShownBytesMax));
      return;
    }
    line.remove_prefix(kData.size());
    if (line == "[DONE]") {
      done_ = true;
      return;
    }
  }
  std::string_view text = after(line, "\"content\":\"");
  if (text.data() == nullptr) text = after(line, "\"text\":\"");
  if (text.data() != nullptr) {
    take_text(text.substr(0, text.find('"')));
  } else if (after(line, "\"choices\":").data() == nullptr && fault_.empty()) {
    fault_ = fmt::format("no answer: {}", line.substr(0, kShownBytesMax));
  }
}

void TokenChecker::take_text(std::string_view text) {
  if (!numbered_) {
    if (!text.empty()) finished_ = ++begun_;
    return;
  }
  for (const char c : text) {
    if (c == ' ') {
      finish_number();
    } else if (is_digit(c)) {
      if (!in_number_) ++begun_;
      in_number_ = true;
      number_ = number_ * 10 + static_cast<std::uint64_t>(c - '0');
    } else if (fault_.empty()) {
      fault_ = fmt::format("not a number: {}", text.substr(0, kShownBytesMax));
    }
  }
}

void TokenChecker::finish_number() {
  if (!in_number_) return;
  in_number_ = false;
  if (number_ != finished_ && fault_.empty())
    fault_ = fmt::format("token {} came where {} was due", number_, finished_);
  number_ = 0;
  ++finished_;
}

std::string TokenChecker::verdict(std::uint32_t tokens) {
  if (!streamed_) take_line(partial_);
  if (streamed_ && !partial_.empty() && fault_.empty()) fault_ = "the stream ends within a line";
  finish_number();
  if (fault_.empty() && (numbered_ ? finished_ != tokens : finished_ == 0))
    fault_ = fmt::format("{} tokens came, {} were asked for", finished_, tokens);
  if (fault_.empty() && streamed_ && !done_) fault_ = "the stream ended without [DONE]";
  return fault_;
}

}  // namespace pd::bench
