// Puts together one line that ends in CRLF from pieces of input. Pure. Internal to net.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace pd::net {

class LineReader {
 public:
  enum class Outcome {
    kMore,     // all input taken, the line is not complete
    kLine,     // line() is complete
    kTooLong,  // longer than allowed, line end included
    kBareLf,   // LF without CR before it
  };

  // Takes bytes from the front of `input`, up to and including the LF. `bytes_max` bounds the whole
  // line with its end. A line that lies within one piece is not copied: line() then points into it.
  Outcome read(std::string_view& input, std::size_t bytes_max) {
    const std::size_t lf = input.find('\n');
    const bool complete = lf != std::string_view::npos;
    const std::size_t taken = complete ? lf + 1 : input.size();
    if (taken > bytes_max - std::min(bytes_max, partial_.size())) return Outcome::kTooLong;
    const std::string_view piece = input.substr(0, taken);
    input.remove_prefix(taken);
    if (!complete) {
      partial_.append(piece);
      return Outcome::kMore;
    }
    line_ = piece;
    if (!partial_.empty()) {
      whole_ = std::move(partial_);
      partial_.clear();
      whole_.append(piece);
      line_ = whole_;
    }
    bytes_ = line_.size();
    line_.remove_suffix(1);
    if (!line_.ends_with('\r')) return Outcome::kBareLf;
    line_.remove_suffix(1);
    return Outcome::kLine;
  }

  // After kLine, until the next read() or until the input goes: the line without CRLF.
  std::string_view line() const { return line_; }
  std::size_t bytes() const { return bytes_; }  // its length with the line end
  bool empty() const { return partial_.empty(); }

 private:
  std::string partial_, whole_;
  std::string_view line_;
  std::size_t bytes_ = 0;
};

}  // namespace pd::net
