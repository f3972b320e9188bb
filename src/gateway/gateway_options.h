// What a gateway is told at its start; the same for all its shards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/time.h"
#include "base/units.h"
#include "gateway/admin.h"
#include "gateway/certificate_files.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "policy/dispatcher.h"

namespace pd::gateway {

struct GatewayOptions {
  net::HttpServerOptions http;
  int loops = 1;                // event loops, each a shard of its own
  std::string handover_socket;  // where the next process takes over; empty: it cannot
  net::HttpAddress controller;
  std::string secret;
  std::uint64_t id = 0;  // random: who it is among the gateways of its cluster
  std::string model_name;
  Tokens context_max;
  Duration ttft_limit{std::chrono::seconds(30)};
  Duration request_limit{std::chrono::seconds(600)};
  // A stream that is silent for so long gets a comment: proxies and clients give up on connections
  // that say nothing for half a minute or so.
  Duration keep_alive_after{std::chrono::seconds(15)};
  policy::DispatcherOptions dispatcher;
  std::string access_file;            // keys and tenants; empty: none are asked for
  CertificatePaths certificate;       // empty: without TLS
  std::string access_log;             // a line for each request; empty: none
  std::optional<AdminOptions> admin;  // nullopt: no such port
  std::uint64_t seed = 0;             // of request ids and of seeds that clients leave open
  std::int64_t created = 0;           // Unix seconds, what /v1/models says
};

}  // namespace pd::gateway
