#include "gateway/arrival.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace pd::gateway {
namespace {

constexpr std::size_t kClientIdMax = 128;
constexpr std::size_t kTraceparentSize = 55;  // "00-" 32 digits "-" 16 digits "-" 2 digits

std::int64_t unix_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

}  // namespace

Arrival arrival_of(const net::HttpRequest& request, std::string id) {
  return {.id = std::move(id),
          .client_id = client_id_of(request.header("x-request-id")),
          .trace_id = trace_id_of(request.header("traceparent")),
          .received = request.received,
          .unix_ms = unix_milliseconds(),
          .body = Bytes(static_cast<Bytes::rep>(request.body.size())),
          .endpoint = std::string(request.path()),
          .peer = request.peer};
}

std::vector<net::Header> answer_headers(const Access& access, const Arrival& arrival, Time now) {
  std::vector<net::Header> out = access.headers(arrival.caller, now);
  out.emplace_back("x-request-id", arrival.id);
  return out;
}

net::Header retry_after(Duration wait) {
  const auto seconds = static_cast<std::int64_t>(std::ceil(to_seconds(wait)));
  return {"retry-after", std::to_string(std::max<std::int64_t>(1, seconds))};
}

std::string client_id_of(std::string_view header) {
  const bool visible = std::ranges::all_of(header, [](char c) { return c > ' ' && c < 0x7f; });
  return visible && header.size() <= kClientIdMax ? std::string(header) : std::string();
}

std::string trace_id_of(std::string_view header) {
  if (header.size() < kTraceparentSize) return {};
  const std::string_view version = header.substr(0, 2), trace = header.substr(3, 32),
                         parent = header.substr(36, 16), flags = header.substr(53, 2);
  if (header[2] != '-' || header[35] != '-' || header[52] != '-') return {};
  if (!is_hex(version) || !is_hex(trace) || !is_hex(parent) || !is_hex(flags)) return {};
  if (version == "ff" || is_zero(trace) || is_zero(parent)) return {};
  // A later version may have more behind it, this one has not.
  const bool whole = header.size() == kTraceparentSize;
  if (!whole && (version == "00" || header[kTraceparentSize] != '-')) return {};
  return std::string(trace);
}

}  // namespace pd::gateway
