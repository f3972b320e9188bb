// The operator's door, on a port of its own and with a key of its own: what is being served and
// where, tenants and their limits, cancel, drain. It lives on the loop of the gateway's first shard
// and asks the others. Loop thread only.
//   GET    /admin/v1/requests        every request that is being served
//   GET    /admin/v1/requests/ID     one of them
//   DELETE /admin/v1/requests/ID     ends it; its client gets an error that says so
//   GET    /admin/v1/tenants         limits and what is left of them
//   POST   /admin/v1/drain           no new requests; the process ends when the last one has
// ID is a request's own, or one that its client chose and no other that is served has: else 409.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "gateway/access.h"
#include "net/event_loop.h"
#include "net/http_server.h"

namespace pd::gateway {

class Shards;

struct AdminOptions {
  net::HttpServerOptions http;
  std::string key;  // sent as Authorization: Bearer KEY
};

class AdminServer {
 public:
  // On sockets that listen already. `shards` and `access` outlive it.
  static Result<std::unique_ptr<AdminServer>> create(net::EventLoop& loop,
                                                     const AdminOptions& options,
                                                     std::vector<UniqueFd> listeners,
                                                     Shards& shards, Access& access,
                                                     std::function<void()> drain);
  std::uint16_t port() const { return server_->port(); }
  void start_accepting() { server_->start_accepting(); }
  void stop_accepting() { server_->stop_accepting(); }

 private:
  AdminServer(net::EventLoop& loop, const std::string& key, Shards& shards, Access& access,
              std::function<void()> drain);
  void handle(const net::HttpRequest& request, net::HttpResponse& response);
  void send_requests(net::HttpResponse response);
  void handle_request(const net::HttpRequest& request, const std::string& name,
                      net::HttpResponse& response);
  void cancel(const std::string& id, net::HttpResponse response);
  std::string tenants_json() const;

  net::EventLoop& loop_;
  std::string key_digest_;
  Shards& shards_;
  Access& access_;
  std::function<void()> drain_;
  std::unique_ptr<net::HttpServer> server_;
};

}  // namespace pd::gateway
