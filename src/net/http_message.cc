#include "net/http_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

#include "base/text.h"
#include "net/http_grammar.h"

namespace pd::net {
namespace {

bool delimits_message(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames = {"connection", "content-length", "date",
                                                             "keep-alive", "transfer-encoding"};
  return std::ranges::any_of(
      kNames, [name](std::string_view ours) { return equal_ignoring_case(ours, name); });
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  if (!is_token(name)) return;
  out.append(name).append(": ");
  if (is_field_value(value)) {
    out.append(value);
  } else {
    std::ranges::transform(value, std::back_inserter(out), [](char c) {
      return is_field_value(std::string_view(&c, 1)) ? c : ' ';
    });
  }
  out.append("\r\n");
}

}  // namespace

void append_response_head(std::string& out, const ResponseHead& head) {
  std::size_t bytes = 160 + head.content_type.size() + head.upgrade.size();
  if (head.extra != nullptr)
    for (const auto& [name, value] : *head.extra) bytes += name.size() + value.size() + 4;
  out.reserve(out.size() + bytes);
  out += "HTTP/1.1 ";
  append_number(out, head.status);
  out.append(" ").append(reason_phrase(head.status)).append("\r\n");
  append_field(out, "date", head.date);
  if (!head.content_type.empty()) append_field(out, "content-type", head.content_type);
  if (head.content_length) {
    out += "content-length: ";
    append_number(out, *head.content_length);
    out += "\r\n";
  }
  if (!head.upgrade.empty()) {
    out.append("connection: upgrade\r\n");
    append_field(out, "upgrade", head.upgrade);
  }
  if (head.chunked) out.append("transfer-encoding: chunked\r\n");
  if (head.close) out.append("connection: close\r\n");
  if (head.keep_alive) out.append("connection: keep-alive\r\n");
  if (head.extra != nullptr) {
    for (const auto& [name, value] : *head.extra) {
      if (!delimits_message(name)) append_field(out, name, value);
    }
  }
  out.append("\r\n");
}

void append_chunk(std::string& out, std::string_view bytes) {
  if (bytes.empty()) return;
  char digits[16];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, bytes.size(), 16).ptr);
  out.append("\r\n").append(bytes).append("\r\n");
}

std::string error_body(int status, std::string_view message) {
  std::string out = R"({"error":{"message":")";
  append_json_escaped(out, message);
  out += status < 500 ? R"(","type":"invalid_request_error")" : R"(","type":"server_error")";
  out += R"(,"param":null,"code":null}})";
  return out;
}

std::string_view HttpDate::at(std::time_t now) {
  if (now != made_for_) {
    made_for_ = now;
    std::tm parts{};
    gmtime_r(&now, &parts);
    static constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed",
                                                         "Thu", "Fri", "Sat"};
    static constexpr std::array<const char*, 12> kMonths = {
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    text_ = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[parts.tm_wday],
                        parts.tm_mday, kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour,
                        parts.tm_min, parts.tm_sec);
  }
  return text_;
}

}  // namespace pd::net
