#include "gateway/admin.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/refuse.h"
#include "gateway/shards.h"
#include "net/percent_encoding.h"
#include "protocol/api_error.h"

namespace pd::gateway {

using protocol::ApiError;

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kRequests = "/admin/v1/requests";

nlohmann::ordered_json bucket_json(const policy::QuotaBucket& bucket, Time now) {
  if (!bucket.limited()) return nullptr;
  return {{"per_minute", bucket.per_minute()}, {"left", std::floor(bucket.left(now))}};
}

}  // namespace

Result<std::unique_ptr<AdminServer>> AdminServer::create(net::EventLoop& loop,
                                                         const AdminOptions& options,
                                                         std::vector<UniqueFd> listeners,
                                                         Shards& shards, Access& access,
                                                         std::function<void()> drain) {
  std::unique_ptr<AdminServer> admin(
      new AdminServer(loop, options.key, shards, access, std::move(drain)));
  auto server = net::HttpServer::adopt(
      loop, options.http, std::move(listeners),
      [raw = admin.get()](const net::HttpRequest& request, net::HttpResponse response) {
        raw->handle(request, response);
      });
  if (!server) return std::unexpected(server.error());
  admin->server_ = std::move(*server);
  return admin;
}

AdminServer::AdminServer(net::EventLoop& loop, const std::string& key, Shards& shards,
                         Access& access, std::function<void()> drain)
    : loop_(loop),
      key_digest_(sha256_hex("Bearer " + key)),
      shards_(shards),
      access_(access),
      drain_(std::move(drain)) {}

void AdminServer::handle(const net::HttpRequest& request, net::HttpResponse& response) {
  // Digests, so that the time of the comparison tells nothing about the key.
  if (sha256_hex(request.header("authorization")) != key_digest_) {
    return refuse(response, {401, "invalid_request_error",
                             "this port needs the operator's key: Authorization: Bearer KEY", "",
                             "invalid_admin_key"});
  }
  const std::string path(request.path());
  const auto only = [&](std::string_view method) {
    if (request.method == method) return true;
    refuse_method(response, request, std::string(method));
    return false;
  };
  if (path == kRequests) {
    if (only("GET")) send_requests(response);
  } else if (path.starts_with(fmt::format("{}/", kRequests))) {
    handle_request(request, net::percent_decoded(path.substr(kRequests.size() + 1)), response);
  } else if (path == "/admin/v1/tenants") {
    if (only("GET")) response.send(200, kJson, tenants_json());
  } else if (path == "/admin/v1/drain") {
    if (!only("POST")) return;
    response.send(202, kJson, R"({"draining":true})");
    // In the next turn, when the answer has left: a gateway with nothing to do ends at once.
    loop_.post([this] { drain_(); });
  } else {
    refuse(response, {404, "invalid_request_error",
                      fmt::format("there is no {}; /admin/v1/requests, /admin/v1/tenants and "
                                  "/admin/v1/drain are here",
                                  protocol::shortened(path)),
                      "", "unknown_url"});
  }
}

void AdminServer::send_requests(net::HttpResponse response) {
  using Entries = std::vector<RequestEntry>;
  shards_.gather<Entries>(
      loop_,
      [](Shard& shard) {
        Entries out;
        for (const auto& open : shard.book().all()) out.push_back(open->entry());
        return out;
      },
      [response](const std::vector<Entries>& all) mutable {
        nlohmann::ordered_json out = nlohmann::ordered_json::array();
        for (const Entries& entries : all) {
          for (const RequestEntry& entry : entries) out.push_back(to_json(entry));
        }
        response.send(200, kJson, nlohmann::ordered_json{{"requests", std::move(out)}}.dump());
      });
}

void AdminServer::handle_request(const net::HttpRequest& request, const std::string& name,
                                 net::HttpResponse& response) {
  if (request.method != "GET" && request.method != "DELETE")
    return refuse_method(response, request, "GET, DELETE");
  using Entries = std::vector<RequestEntry>;
  // Which one is meant is known when every loop has said what it has: a name that a client chose
  // may be another one's own id.
  shards_.gather<Entries>(
      loop_,
      [name](Shard& shard) {
        Entries out;
        for (const auto& open : shard.book().named(name)) out.push_back(open->entry());
        return out;
      },
      [this, name, response,
       cancelling = request.method == "DELETE"](const std::vector<Entries>& all) mutable {
        Entries found;
        for (const Entries& entries : all)
          found.insert(found.end(), entries.begin(), entries.end());
        const auto meant = meant_by(name, found);
        if (!meant) return refuse(response, meant.error());
        if (cancelling) return cancel(meant->id, response);
        response.send(200, kJson, to_json(*meant).dump());
      });
}

void AdminServer::cancel(const std::string& id, net::HttpResponse response) {
  shards_.gather<int>(
      loop_,
      [id](Shard& shard) {
        const auto open = shard.book().find(id);
        if (open != nullptr) open->cancel();
        return open != nullptr ? 1 : 0;
      },
      [id, response](const std::vector<int>& ended) mutable {
        // None: it has ended since it was looked for.
        if (std::ranges::count(ended, 1) == 0) return refuse(response, meant_by(id, {}).error());
        response.send(200, kJson, nlohmann::json{{"cancelled", id}}.dump());
      });
}

std::string AdminServer::tenants_json() const {
  const Time now = loop_.now();
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const auto& [caller, standing] : access_.tenants()) {
    out.push_back({{"name", caller.tenant_name},
                   {"weight", caller.weight},
                   {"requests", bucket_json(standing.requests, now)},
                   {"tokens", bucket_json(standing.tokens, now)},
                   {"running", standing.running},
                   {"concurrency", standing.concurrency}});
  }
  return nlohmann::ordered_json{{"tenants", std::move(out)}}.dump();
}

}  // namespace pd::gateway
