#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "net/http_parser.h"

namespace pd::net {
namespace {

constexpr std::size_t kMethodBytesMax = 32;
// By which a body's memory grows at least; and by a quarter of what it has.
constexpr std::size_t kBodyGrowthMin = 64 * 1024;

constexpr char kTlsHandshake = 0x16;

}  // namespace

std::size_t RequestParser::feed(std::string_view bytes) {
  std::string_view input = bytes;
  while (!input.empty()) {
    if (state_ == State::kIdle || state_ == State::kHead) {
      read_head(input);
    } else if (state_ == State::kBody) {
      read_body(input);
    } else {
      break;
    }
  }
  return bytes.size() - input.size();
}

void RequestParser::read_head(std::string_view& input) {
  if (state_ == State::kIdle && line_.empty()) {
    const char first = input.front();
    if (first == kTlsHandshake)
      return fail(400, "this port speaks plain HTTP, the client sent TLS");
    // A line of nothing before a request is tolerated (RFC 9112, 2.2); it counts as head bytes.
    if (first != '\r' && first != '\n') {
      if (!is_token_char(first)) return fail(400, "this is not an HTTP request");
      state_ = State::kHead;
    }
  }
  const auto bytes_max = static_cast<std::size_t>(limits_->header_bytes_max.value());
  switch (line_.read(input, bytes_max - std::min(bytes_max, head_bytes_))) {
    case LineReader::Outcome::kMore:
      return;
    case LineReader::Outcome::kLine:
      break;
    case LineReader::Outcome::kTooLong:
      return fail(431, fmt::format("the request head is over {} bytes", bytes_max));
    case LineReader::Outcome::kBareLf:
      return fail(400, "a line of the head ends in LF only");
  }
  head_bytes_ += line_.bytes();
  const std::string_view line = line_.line();
  if (!request_line_read_) {
    if (!line.empty()) return read_request_line(line);
    if (state_ == State::kHead) fail(400, "the request line is empty");
    return;
  }
  if (line.empty()) return end_head();
  if (request_.headers.size() >= static_cast<std::size_t>(limits_->headers_max)) {
    return fail(431, fmt::format("the request has more than {} headers", limits_->headers_max));
  }
  auto field = parse_field(line);
  if (!field) return fail(field.error().status, std::move(field.error().message));
  request_.headers.push_back(std::move(*field));
}

// method SP target SP HTTP/1.x
void RequestParser::read_request_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return fail(400, "the request line is not: method, space, target, space, HTTP/1.1");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(method) || method.size() > kMethodBytesMax) {
    return fail(400, "the request's method is malformed");
  }
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (version.size() != 8 || !version.starts_with("HTTP/") || !digit(version[5]) ||
      version[6] != '.' || !digit(version[7])) {
    return fail(400, "the request line does not end in HTTP/1.1 or HTTP/1.0");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return fail(505, fmt::format("{} is not served here, use HTTP/1.1", version));
  }
  version_minor_ = version[7] - '0';
  if (method == "CONNECT") return fail(501, "CONNECT is not served here");
  request_.method = method;
  if (!set_target(target)) return;
  request_line_read_ = true;
  request_.headers.reserve(8);  // most clients send fewer
}

// origin-form, absolute-form with http or https (RFC 9112, 3.2.2), or "*" for OPTIONS.
bool RequestParser::set_target(std::string_view target) {
  if (!is_target(target)) {
    fail(400, "the request target has a character that must be percent-encoded");
    return false;
  }
  if (target.front() == '/' || (target == "*" && request_.method == "OPTIONS")) {
    request_.target = target;
    return true;
  }
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equal_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
    const std::string_view rest = target.substr(scheme.size());
    const std::size_t path = std::min(rest.find_first_of("/?"), rest.size());
    authority_ = rest.substr(0, path);
    if (authority_.empty() || !is_authority(authority_)) break;
    request_.target = rest.substr(path);
    if (!request_.target.starts_with('/')) request_.target.insert(0, "/");
    return true;
  }
  fail(400, "the request target must be a path that starts with /");
  return false;
}

void RequestParser::end_head() {
  const auto framing = framing_of(request_.headers, version_minor_);
  if (!framing) return fail(framing.error().status, framing.error().message);
  if (!check_host()) return;
  keep_alive_ = !framing->close && (version_minor_ == 1 || framing->keep_alive);
  chunked_ = framing->chunked;
  body_left_ = framing->content_length.value_or(0);
  if (body_left_ > static_cast<std::uint64_t>(limits_->body_bytes_max.value())) {
    return fail(413,
                fmt::format("the request body is over {} bytes", limits_->body_bytes_max.value()));
  }
  if (!check_coding() || !check_expectation()) return;
  state_ = chunked_ || body_left_ > 0 ? State::kBody : State::kComplete;
}

bool RequestParser::check_host() {
  auto& headers = request_.headers;
  const auto is_host = [](const Header& header) { return header.first == "host"; };
  const auto count = std::ranges::count_if(headers, is_host);
  if (count > 1) {
    fail(400, "the Host header is given twice");
    return false;
  }
  if (count == 0 && version_minor_ == 1) {
    fail(400, "the Host header is missing, HTTP/1.1 requires it");
    return false;
  }
  const auto host = std::ranges::find_if(headers, is_host);
  if (host != headers.end()) {
    if (!is_authority(host->second)) {
      fail(400, "the Host header is not host:port");
      return false;
    }
    if (!authority_.empty()) host->second = authority_;
  }
  return true;
}

bool RequestParser::check_coding() {
  for (const auto& [name, value] : request_.headers) {
    if (name != "content-encoding" || value.empty() || equal_ignoring_case(value, "identity"))
      continue;
    fail(415, "bodies are read as they are, not compressed: leave Content-Encoding out");
    return false;
  }
  return true;
}

bool RequestParser::check_expectation() {
  for (const auto& [name, value] : request_.headers) {
    if (name != "expect" || version_minor_ == 0) continue;
    if (!equal_ignoring_case(value, "100-continue")) {
      fail(417, "the only expectation served is 100-continue");
      return false;
    }
    expect_continue_ = chunked_ || body_left_ > 0;
  }
  return true;
}

bool RequestParser::take_expect_continue() { return std::exchange(expect_continue_, false); }

void RequestParser::read_body(std::string_view& input) {
  if (!chunked_) {
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(body_left_, input.size()));
    append_body(input.substr(0, taken), body_left_);
    input.remove_prefix(taken);
    body_left_ -= taken;
    if (body_left_ == 0) state_ = State::kComplete;
    return;
  }
  const auto body_max = static_cast<std::size_t>(limits_->body_bytes_max.value());
  const ChunkedBody::Event event = chunks_.next(input);
  const bool data = event == ChunkedBody::Event::kData;
  const std::uint64_t more = chunks_.promised() + (data ? chunks_.data().size() : 0);
  // What a chunk announces is refused before it is sent.
  if (event != ChunkedBody::Event::kFailed && more > body_max - request_.body.size())
    return fail(413, fmt::format("the request body is over {} bytes", body_max));
  switch (event) {
    case ChunkedBody::Event::kMore:
      return;
    case ChunkedBody::Event::kData:
      append_body(chunks_.data(), body_max - request_.body.size());
      return;
    case ChunkedBody::Event::kEnd:
      state_ = State::kComplete;
      return;
    case ChunkedBody::Event::kFailed:
      return fail(400, chunks_.problem().message);
  }
}

// `left`: the most that still comes, these bytes included. Memory follows the bytes: a
// Content-Length is a claim. append() and reserve() would double what there is.
void RequestParser::append_body(std::string_view bytes, std::uint64_t left) {
  std::string& body = request_.body;
  const std::size_t size = body.size() + bytes.size();
  if (size > body.capacity()) {
    const std::uint64_t more =
        std::min<std::uint64_t>(std::max(kBodyGrowthMin, size / 4), left - bytes.size());
    std::string grown;
    grown.reserve(size + static_cast<std::size_t>(more));
    grown += body;
    body = std::move(grown);
  }
  body += bytes;
}

void RequestParser::abandon() {
  request_ = {};
  state_ = State::kFailed;
}

HttpRequest RequestParser::take_head() {
  CHECK(state_ == State::kBody);
  HttpRequest request = std::exchange(request_, {});
  request.body = {};
  state_ = State::kFailed;
  keep_alive_ = false;
  return request;
}

HttpRequest RequestParser::take() {
  CHECK(state_ == State::kComplete);
  HttpRequest request = std::move(request_);
  const int version_minor = version_minor_;
  const bool keep_alive = keep_alive_;
  *this = RequestParser(*limits_);
  version_minor_ = version_minor;  // still asked for while the response is written
  keep_alive_ = keep_alive;
  return request;
}

void RequestParser::fail(int status, std::string message) {
  state_ = State::kFailed;
  problem_ = HttpProblem{status, std::move(message)};
}

}  // namespace pd::net
