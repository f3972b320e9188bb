// Takes a stream of server-sent events apart, in any cut of its bytes (WHATWG HTML, 9.2.6; of the
// fields only `data`). Pure.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace pd::protocol {

class SseReader {
 public:
  explicit SseReader(std::size_t event_bytes_max = 16 << 20) : event_bytes_max_(event_bytes_max) {}

  // Calls on_data(std::string_view) with each event's data; the view is valid during the call.
  // False: an event is over its limit, and nothing more is read.
  template <typename OnData>
  bool feed(std::string_view bytes, OnData&& on_data) {
    if (!bytes.empty() && std::exchange(skip_line_feed_, false) && bytes.front() == '\n')
      bytes.remove_prefix(1);
    while (!failed_ && !bytes.empty()) {
      const auto end = std::ranges::find_if(bytes, [](char c) { return c == '\n' || c == '\r'; });
      const std::string_view piece(bytes.begin(), end);
      bytes.remove_prefix(piece.size());
      if (bytes.empty()) {
        keep(line_, piece);
        break;
      }
      skip_line_end(bytes);
      if (line_.empty()) {
        take_line(piece, bytes, on_data);
      } else {
        keep(line_, piece);
        const std::string whole = std::exchange(line_, {});
        take_line(whole, bytes, on_data);
      }
    }
    return !failed_;
  }

 private:
  // `bytes` begin with the end of a line: LF, CR, or CR LF, whose LF may be still on its way.
  void skip_line_end(std::string_view& bytes) {
    const bool carriage_return = bytes.front() == '\r';
    bytes.remove_prefix(1);
    if (!carriage_return) return;
    skip_line_feed_ = bytes.empty();
    if (bytes.starts_with('\n')) bytes.remove_prefix(1);
  }

  template <typename OnData>
  void take_line(std::string_view line, std::string_view& rest, OnData&& on_data) {
    if (line.empty()) {
      if (!has_data_) return;
      const std::string whole = std::exchange(data_, {});
      has_data_ = false;
      return on_data(std::string_view(whole));
    }
    if (!line.starts_with("data")) return;
    std::string_view value = line.substr(4);
    if (!value.empty() && !value.starts_with(':')) return;  // another field
    if (!value.empty()) value.remove_prefix(1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    // The common event, one line of data and its end: handed out as it lies.
    if (!has_data_ && (rest.starts_with('\n') || rest.starts_with('\r'))) {
      skip_line_end(rest);
      return on_data(value);
    }
    if (std::exchange(has_data_, true)) keep(data_, "\n");
    keep(data_, value);
  }

  void keep(std::string& where, std::string_view bytes) {
    if (bytes.size() > event_bytes_max_ - std::min(event_bytes_max_, where.size())) {
      failed_ = true;
      return;
    }
    where.append(bytes);
  }

  std::size_t event_bytes_max_;
  std::string line_;  // its part so far, when the bytes ended inside it
  std::string data_;  // of the event so far
  bool has_data_ = false;
  bool skip_line_feed_ = false;  // the bytes ended with a CR
  bool failed_ = false;
};

}  // namespace pd::protocol
