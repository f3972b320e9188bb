// The operator's door, on a port of its own and with a key of its own: what is being served and
// where, tenants and their limits, cancel, drain. Loop thread only.
//   GET    /admin/v1/requests        every request that is being served
//   GET    /admin/v1/requests/ID     one of them
//   DELETE /admin/v1/requests/ID     ends it; its client gets an error that says so
//   GET    /admin/v1/tenants         limits and what is left of them
//   POST   /admin/v1/drain           no new requests; the process ends when the last one has
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "gateway/access.h"
#include "gateway/request_book.h"
#include "net/event_loop.h"
#include "net/http_server.h"

namespace pd::gateway {

struct AdminOptions {
  net::HttpServerOptions http;
  std::string key;  // sent as Authorization: Bearer KEY
};

class AdminServer {
 public:
  // `book` and `access` outlive it.
  static Result<std::unique_ptr<AdminServer>> create(net::EventLoop& loop, AdminOptions options,
                                                     RequestBook& book, Access& access,
                                                     std::function<void()> drain);
  std::uint16_t port() const { return server_->port(); }

 private:
  AdminServer(net::EventLoop& loop, std::string key, RequestBook& book, Access& access,
              std::function<void()> drain);
  void handle(const net::HttpRequest& request, net::HttpResponse& response);
  void handle_request(const net::HttpRequest& request, const std::string& id,
                      net::HttpResponse& response);
  std::string requests_json() const;
  std::string tenants_json() const;

  net::EventLoop& loop_;
  std::string key_digest_;
  RequestBook& book_;
  Access& access_;
  std::function<void()> drain_;
  std::unique_ptr<net::HttpServer> server_;
};

}  // namespace pd::gateway
