// An error as every door of the gateway answers it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "net/http_server.h"
#include "protocol/api_error.h"

namespace pd::gateway {

inline void refuse(net::HttpResponse& response, const protocol::ApiError& error,
                   std::vector<net::Header> headers = {}) {
  if (error.status == 401) headers.emplace_back("www-authenticate", "Bearer");
  response.send(error.status, "application/json", to_json(error), headers);
}

// `allowed`: "GET", as the header Allow has it.
inline void refuse_method(net::HttpResponse& response, const net::HttpRequest& request,
                          std::string allowed, std::vector<net::Header> headers = {}) {
  const protocol::ApiError error{
      405, "invalid_request_error",
      fmt::format("{} does not answer {}; use {}", protocol::shortened(request.path()),
                  request.method, allowed),
      "", "method_not_allowed"};
  headers.emplace_back("allow", std::move(allowed));
  refuse(response, error, std::move(headers));
}

}  // namespace pd::gateway
