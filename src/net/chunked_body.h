// Takes a chunked body apart (RFC 9112, 7.1). Pure. Internal to net.
//   chunked-body = *( size [ext] CRLF data CRLF ) 1*"0" [ext] CRLF *( field CRLF ) CRLF
// Extensions are checked, bounded and ignored; trailer fields likewise.
#pragma once

#include <cstdint>
#include <string_view>

#include "net/http_grammar.h"
#include "net/line_reader.h"

namespace pd::net {

class ChunkedBody {
 public:
  enum class Event { kMore, kData, kEnd, kFailed };

  // Takes bytes from the front of `input` until something is to be told. kData: data() holds body
  // bytes, inside the input. After kEnd and kFailed no more input is taken.
  Event next(std::string_view& input);
  std::string_view data() const { return data_; }
  // Bytes that the chunk in hand says it has, and that have not been handed out.
  std::uint64_t promised() const { return left_; }
  const HttpProblem& problem() const { return problem_; }

  // Bounds on what is not body: a chunk's head line, all extensions of one body, all trailers.
  static constexpr std::size_t kChunkLineBytesMax = 1024;
  static constexpr std::size_t kExtensionBytesMax = 16 * 1024;
  static constexpr std::size_t kTrailerBytesMax = 16 * 1024;

 private:
  enum class State { kSize, kData, kDataEnd, kTrailers, kEnd, kFailed };
  bool read_line(std::string_view& input, std::size_t bytes_max, const char* what);
  void read_size(std::string_view& input);
  void read_data_end(std::string_view& input);
  void read_trailer(std::string_view& input);
  void fail(std::string message);

  State state_ = State::kSize;
  std::uint64_t left_ = 0;  // bytes of the current chunk not yet handed out
  std::size_t extension_bytes_ = 0;
  std::size_t trailer_bytes_ = 0;
  std::string_view data_;
  LineReader line_;
  HttpProblem problem_;
};

}  // namespace pd::net
