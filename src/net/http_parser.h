// HTTP/1.1 messages out of bytes, strictly by RFC 9112. Pure: no socket, no clock; the same bytes
// in any pieces give the same events. Internal to net.
//
// Refused, so that no two parsers on a path can disagree about where a message ends: bare LF,
// folded lines, white space before a colon, Content-Length twice or with Transfer-Encoding, lengths
// with signs or overflow, transfer codings other than exactly `chunked`, control characters, a
// missing or repeated Host. Why not Beast's parser: docs/decisions/http-parser.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "net/chunked_body.h"
#include "net/http_grammar.h"
#include "net/http_types.h"
#include "net/line_reader.h"

namespace pd::net {

// One connection's requests, one after the other. The body is collected, without chunk framing.
class RequestParser {
 public:
  enum class State {
    kIdle,      // no byte of a request yet (empty lines before one do not count)
    kHead,      // inside request line or fields
    kBody,      // head complete, body not
    kComplete,  // take() it
    kFailed,    // problem() says why; for good
  };

  explicit RequestParser(const HttpLimits& limits) : limits_(&limits) {}  // limits outlive it

  // Takes bytes from the front and returns how many. Stops behind a complete request, so that what
  // the client sent after it stays with the caller.
  std::size_t feed(std::string_view bytes);

  State state() const { return state_; }
  const HttpProblem& problem() const { return problem_; }

  // That the body collected so far takes: at most a quarter, or 64 KiB, more than it has.
  std::size_t body_memory() const { return request_.body.empty() ? 0 : request_.body.capacity(); }
  // Nobody wants the request any more: what was collected goes, and nothing more is taken.
  void abandon();

  // From kBody on:
  bool keep_alive() const { return keep_alive_; }
  int version_minor() const { return version_minor_; }
  // True once per request: its client waits for "100 Continue" before it sends the body.
  bool take_expect_continue();

  // The head; its body as far as it has come.
  const HttpRequest& request() const { return request_; }
  // Nobody wants the body: the request without it. kBody -> kFailed, nothing more is taken.
  HttpRequest take_head();

  HttpRequest take();  // kComplete -> kIdle

 private:
  void read_head(std::string_view& input);
  void read_request_line(std::string_view line);
  bool set_target(std::string_view target);
  void end_head();
  bool check_host();
  bool check_coding();
  bool check_expectation();
  void read_body(std::string_view& input);
  void append_body(std::string_view bytes, std::uint64_t left);
  void fail(int status, std::string message);

  const HttpLimits* limits_;
  State state_ = State::kIdle;
  bool request_line_read_ = false;
  bool keep_alive_ = false;
  bool chunked_ = false;
  bool expect_continue_ = false;
  int version_minor_ = 1;
  std::size_t head_bytes_ = 0;
  std::uint64_t body_left_ = 0;
  LineReader line_;
  ChunkedBody chunks_;
  HttpRequest request_;
  std::string authority_;  // of an absolute-form target; it replaces Host
  HttpProblem problem_;
};

// One response, streamed: the events of its parts as they arrive.
class ResponseParser {
 public:
  enum class Event {
    kMore,  // all input taken
    kHead,  // status(), headers(); interim (1xx) responses are skipped
    kData,  // data(): body bytes without chunk framing, inside the input
    kEnd,   // complete; no more input is taken
    kFailed,
  };

  // `head_request`: the request was HEAD, so no body follows whatever the fields say.
  // `upgrade`: the request asked for another protocol. A 101 is then the head, and every byte
  // behind it data, until the server closes.
  ResponseParser(const HttpLimits& limits, bool head_request, bool upgrade = false)
      : limits_(&limits), head_request_(head_request), upgrade_(upgrade) {}

  // Takes bytes from the front of `input` up to the next event.
  Event next(std::string_view& input);
  // The server closed its side: kEnd if that is how this response ends, otherwise kFailed.
  Event finish();

  int status() const { return status_; }
  const std::vector<Header>& headers() const { return headers_; }
  std::string_view data() const { return data_; }
  const HttpProblem& problem() const { return problem_; }
  bool keep_alive() const { return keep_alive_; }  // after kEnd: the connection can be used again
  bool started() const { return bytes_seen_; }     // any byte at all has arrived

 private:
  enum class State { kStatusLine, kFields, kFixed, kChunked, kUntilClose, kEnd, kFailed };
  Event read_head(std::string_view& input);
  bool read_status_line(std::string_view line);
  Event end_head();
  Event take_data(std::string_view& input, std::uint64_t bytes_max);
  Event fail(std::string message);

  const HttpLimits* limits_;
  bool head_request_;
  bool upgrade_;
  State state_ = State::kStatusLine;
  bool bytes_seen_ = false;
  bool keep_alive_ = false;
  int version_minor_ = 1;
  int status_ = 0;
  std::size_t head_bytes_ = 0;
  std::uint64_t body_left_ = 0;
  LineReader line_;
  ChunkedBody chunks_;
  std::vector<Header> headers_;
  std::string_view data_;
  HttpProblem problem_;
};

}  // namespace pd::net
