// Takes a stream of server-sent events apart, in any cut of its bytes (WHATWG HTML, 9.2.6; of the
// fields only `data`). Pure.
#pragma once

#include <algorithm>
#include <cstring>
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
    while (!failed_ && !bytes.empty()) {
      const void* found = std::memchr(bytes.data(), '\n', bytes.size());
      if (found == nullptr) {
        keep(line_, bytes);
        break;
      }
      const auto length = static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data());
      const std::string_view piece = bytes.substr(0, length);
      bytes.remove_prefix(length + 1);
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
  template <typename OnData>
  void take_line(std::string_view line, std::string_view& rest, OnData&& on_data) {
    if (line.ends_with('\r')) line.remove_suffix(1);
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
    if (!has_data_ && (rest.starts_with('\n') || rest.starts_with("\r\n"))) {
      rest.remove_prefix(rest.front() == '\r' ? 2 : 1);
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
  bool failed_ = false;
};

}  // namespace pd::protocol
