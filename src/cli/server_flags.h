// The flags of commands that are clients of an OpenAI-compatible server, this one or any other.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "net/http_client.h"

namespace pd::cli {

// A server as its clients need it.
struct Server {
  net::HttpAddress address;
  std::string base;  // of every path: "/v1"
  std::string key;   // API key; empty: none
  std::shared_ptr<const net::TlsClientContext> tls;

  net::HttpClientOptions client_options() const { return {.response_limits = {}, .tls = tls}; }
  // A call with the key; `path` below the base: "/models".
  net::HttpCall call(std::string method, const std::string& path, std::string body = {}) const;
};

struct ServerFlags {
  std::string url = "127.0.0.1:8000";
  std::string key, key_file;
  std::string authorities;  // file of trusted certificates
  bool unchecked = false;

  void add_to(CLI::App& app);
  Result<Server> resolve() const;
};

// What a refusing server says, for a terminal: its error object's message, else what it sent.
std::string refusal_message(std::string_view body, int status);

// The first model that the server says it has within `patience`.
Result<std::string> first_model(const Server& server, Duration patience);

}  // namespace pd::cli
