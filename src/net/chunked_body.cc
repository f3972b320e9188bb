#include "net/chunked_body.h"

#include <fmt/format.h>

#include <algorithm>

namespace pd::net {
namespace {

// Takes `"…"` from the front; quoted-pairs are skipped over.
bool take_quoted_string(std::string_view& text) {
  text.remove_prefix(1);
  while (!text.empty()) {
    if (text.front() == '"') {
      text.remove_prefix(1);
      return true;
    }
    if (text.front() == '\\') text.remove_prefix(1);
    if (text.empty() || !is_field_value(text.substr(0, 1))) return false;
    text.remove_prefix(1);
  }
  return false;
}

bool take_token(std::string_view& text) {
  const auto* end = std::ranges::find_if_not(text, is_token_char);
  const auto length = static_cast<std::size_t>(end - text.begin());
  text.remove_prefix(length);
  return length > 0;
}

// *( ";" name [ "=" value ] ), without the white space that the grammar calls bad.
bool is_chunk_extension(std::string_view text) {
  while (!text.empty()) {
    if (text.front() != ';') return false;
    text.remove_prefix(1);
    if (!take_token(text)) return false;
    if (text.empty() || text.front() != '=') continue;
    text.remove_prefix(1);
    if (text.empty()) return false;
    if (!(text.front() == '"' ? take_quoted_string(text) : take_token(text))) return false;
  }
  return true;
}

}  // namespace

ChunkedBody::Event ChunkedBody::next(std::string_view& input) {
  while (true) {
    if (state_ == State::kEnd) return Event::kEnd;
    if (state_ == State::kFailed) return Event::kFailed;
    if (input.empty()) return Event::kMore;
    switch (state_) {
      case State::kSize:
        read_size(input);
        break;
      case State::kData: {
        const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size()));
        data_ = input.substr(0, taken);
        input.remove_prefix(taken);
        left_ -= taken;
        if (left_ == 0) state_ = State::kDataEnd;
        return Event::kData;
      }
      case State::kDataEnd:
        read_data_end(input);
        break;
      case State::kTrailers:
        read_trailer(input);
        break;
      case State::kEnd:
      case State::kFailed:
        break;
    }
  }
}

// True when a line is complete; otherwise more input is needed or the body has failed.
bool ChunkedBody::read_line(std::string_view& input, std::size_t bytes_max, const char* what) {
  switch (line_.read(input, bytes_max)) {
    case LineReader::Outcome::kMore:
      return false;
    case LineReader::Outcome::kLine:
      return true;
    case LineReader::Outcome::kTooLong:
      fail(fmt::format("{} is too long", what));
      return false;
    case LineReader::Outcome::kBareLf:
      fail(fmt::format("{} ends in LF only", what));
      return false;
  }
  return false;
}

void ChunkedBody::read_size(std::string_view& input) {
  if (!read_line(input, kChunkLineBytesMax, "a chunk's head")) return;
  const std::string_view line = line_.line();
  const std::size_t digits = std::min(line.find(';'), line.size());
  const std::optional<std::uint64_t> size = parse_hexadecimal(line.substr(0, digits));
  if (!size) return fail("a chunk's size is not a hexadecimal number below 2^63");
  const std::string_view extension = line.substr(digits);
  extension_bytes_ += extension.size();
  if (extension_bytes_ > kExtensionBytesMax) return fail("the chunk extensions are too long");
  if (!is_chunk_extension(extension)) return fail("a chunk extension is malformed");
  left_ = *size;
  state_ = left_ == 0 ? State::kTrailers : State::kData;
}

void ChunkedBody::read_data_end(std::string_view& input) {
  const LineReader::Outcome outcome = line_.read(input, 2);
  if (outcome == LineReader::Outcome::kMore) return;
  if (outcome != LineReader::Outcome::kLine) {
    return fail("a chunk is longer than its size says, or ends in LF only");
  }
  state_ = State::kSize;
}

void ChunkedBody::read_trailer(std::string_view& input) {
  if (!read_line(input, kTrailerBytesMax - trailer_bytes_, "the trailer section")) return;
  trailer_bytes_ += line_.bytes();
  if (line_.line().empty()) {
    state_ = State::kEnd;
    return;
  }
  if (auto field = parse_field(line_.line()); !field) fail(std::move(field.error().message));
}

void ChunkedBody::fail(std::string message) {
  state_ = State::kFailed;
  problem_ = HttpProblem{400, std::move(message)};
}

}  // namespace pd::net
