#include <fmt/format.h>

#include <algorithm>

#include "net/http_parser.h"

namespace pd::net {

ResponseParser::Event ResponseParser::next(std::string_view& input) {
  bytes_seen_ = bytes_seen_ || !input.empty();
  while (true) {
    switch (state_) {
      case State::kEnd:
        return Event::kEnd;
      case State::kFailed:
        return Event::kFailed;
      case State::kStatusLine:
      case State::kFields: {
        if (input.empty()) return Event::kMore;
        const Event event = read_head(input);
        if (event != Event::kMore) return event;
        break;
      }
      case State::kFixed:
        if (body_left_ == 0) {
          state_ = State::kEnd;
          break;
        }
        if (input.empty()) return Event::kMore;
        return take_data(input, body_left_);
      case State::kUntilClose:
        if (input.empty()) return Event::kMore;
        return take_data(input, input.size());
      case State::kChunked:
        switch (chunks_.next(input)) {
          case ChunkedBody::Event::kMore:
            return Event::kMore;
          case ChunkedBody::Event::kData:
            data_ = chunks_.data();
            return Event::kData;
          case ChunkedBody::Event::kEnd:
            state_ = State::kEnd;
            break;
          case ChunkedBody::Event::kFailed:
            return fail(chunks_.problem().message);
        }
        break;
    }
  }
}

ResponseParser::Event ResponseParser::take_data(std::string_view& input, std::uint64_t bytes_max) {
  const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(bytes_max, input.size()));
  data_ = input.substr(0, taken);
  input.remove_prefix(taken);
  body_left_ -= std::min<std::uint64_t>(body_left_, taken);
  return Event::kData;
}

ResponseParser::Event ResponseParser::finish() {
  if (state_ == State::kUntilClose) state_ = State::kEnd;
  if (state_ == State::kEnd || (state_ == State::kFixed && body_left_ == 0)) return Event::kEnd;
  if (state_ == State::kFailed) return Event::kFailed;
  return fail(bytes_seen_ ? "the response was cut short"
                          : "the connection was closed before the response");
}

// One line of the head. kMore: the head goes on.
ResponseParser::Event ResponseParser::read_head(std::string_view& input) {
  const auto bytes_max = static_cast<std::size_t>(limits_->header_bytes_max.value());
  switch (line_.read(input, bytes_max - std::min(bytes_max, head_bytes_))) {
    case LineReader::Outcome::kMore:
      return Event::kMore;
    case LineReader::Outcome::kLine:
      break;
    case LineReader::Outcome::kTooLong:
      return fail(fmt::format("the response head is over {} bytes", bytes_max));
    case LineReader::Outcome::kBareLf:
      return fail("a line of the head ends in LF only");
  }
  head_bytes_ += line_.bytes();
  const std::string_view line = line_.line();
  if (state_ == State::kStatusLine) {
    if (!read_status_line(line)) return fail("the status line is malformed");
    state_ = State::kFields;
    return Event::kMore;
  }
  if (line.empty()) return end_head();
  if (headers_.size() >= static_cast<std::size_t>(limits_->headers_max)) {
    return fail(fmt::format("the response has more than {} headers", limits_->headers_max));
  }
  auto field = parse_field(line);
  if (!field) return fail(std::move(field.error().message));
  headers_.push_back(std::move(*field));
  return Event::kMore;
}

// HTTP/1.x SP 3DIGIT [SP reason]; servers that leave out an empty reason's space are common.
bool ResponseParser::read_status_line(std::string_view line) {
  if (!line.starts_with("HTTP/1.") || line.size() < 12) return false;
  if (line[7] != '0' && line[7] != '1') return false;
  version_minor_ = line[7] - '0';
  if (line[8] != ' ') return false;
  const auto status = parse_decimal(line.substr(9, 3));
  if (!status || *status < 100 || *status > 599) return false;
  if (line.size() > 12 && line[12] != ' ') return false;
  status_ = static_cast<int>(*status);
  return is_field_value(line.substr(12));
}

ResponseParser::Event ResponseParser::end_head() {
  if (status_ == 101) {
    if (!upgrade_) return fail("the server switched protocols unasked");
    state_ = State::kUntilClose;
    keep_alive_ = false;
    return Event::kHead;
  }
  if (status_ < 200) {
    state_ = State::kStatusLine;
    headers_.clear();
    return Event::kMore;  // head_bytes_ goes on counting: endless interim responses end there
  }
  auto framing = framing_of(headers_, version_minor_);
  if (!framing) return fail(std::move(framing.error().message));
  keep_alive_ = !framing->close && (version_minor_ == 1 || framing->keep_alive);
  if (head_request_ || status_ == 204 || status_ == 304) {
    state_ = State::kEnd;
  } else if (framing->chunked) {
    state_ = State::kChunked;
  } else if (framing->content_length) {
    state_ = State::kFixed;
    body_left_ = *framing->content_length;
  } else {
    state_ = State::kUntilClose;
    keep_alive_ = false;
  }
  return Event::kHead;
}

ResponseParser::Event ResponseParser::fail(std::string message) {
  state_ = State::kFailed;
  keep_alive_ = false;
  problem_ = HttpProblem{502, std::move(message)};
  return Event::kFailed;
}

}  // namespace pd::net
