// Who asked, when and how, as it was when the request came in, and the names under which it can be
// found again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "base/units.h"
#include "gateway/access.h"
#include "net/http_types.h"

namespace pd::gateway {

struct Arrival {
  std::string id;         // of the answer, of its line in the access log
  std::string client_id;  // the client's own X-Request-Id; empty: none, or none that can be taken
  std::string trace_id;   // of its traceparent; empty likewise
  Caller caller;
  Time received;
  Time admitted;  // when it took its caller's place
  std::int64_t unix_ms = 0;
  Bytes body;
  std::string endpoint;
  std::string peer;
};

Arrival arrival_of(const net::HttpRequest& request, std::string id);

// What every answer to it says in its head: its id, and what is left of its caller's limits.
std::vector<net::Header> answer_headers(const Access& access, const Arrival& arrival, Time now);

// Whole seconds, at least one.
net::Header retry_after(Duration wait);

// 1 to 128 visible ASCII characters; otherwise empty.
std::string client_id_of(std::string_view header);
// 32 lower-case hex digits out of a traceparent (W3C Trace Context, 3.2); empty when it is not one.
std::string trace_id_of(std::string_view header);

}  // namespace pd::gateway
