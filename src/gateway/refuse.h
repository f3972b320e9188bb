// An error as every door of the gateway answers it.
#pragma once

#include <vector>

#include "net/http_server.h"
#include "protocol/api_error.h"

namespace pd::gateway {

inline void refuse(net::HttpResponse& response, const protocol::ApiError& error,
                   const std::vector<net::Header>& headers = {}) {
  response.send(error.status, "application/json", to_json(error), headers);
}

}  // namespace pd::gateway
