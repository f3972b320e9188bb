#include "gateway/gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace pd::gateway {
namespace {

constexpr Duration kEndCheck = std::chrono::milliseconds(20);
constexpr Duration kEndLogGap = std::chrono::seconds(10);
constexpr Duration kLastWords = std::chrono::seconds(1);  // for the errors of those given up

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::create(net::EventLoop& loop, const model::Model& model,
                                                 GatewayOptions options) {
  std::unique_ptr<Gateway> gateway(new Gateway(loop, std::move(options)));
  const GatewayOptions& own = gateway->options_;
  if (Status opened = gateway->open_certificate(); !opened) return std::unexpected(opened.error());
  auto listening = Listening::create(own);
  if (!listening) return std::unexpected(listening.error());
  gateway->listening_.emplace(std::move(*listening));
  if (!own.access_log.empty()) {
    auto log = AccessLog::open(own.access_log, gateway->metrics_);
    if (!log) return std::unexpected(log.error());
    gateway->access_log_ = std::move(*log);
  }
  const ShardContext context{
      .model = &model,
      .options = &own,
      .common_metrics = &gateway->metrics_,
      .access = &gateway->access_,
      .access_log = gateway->access_log_.get(),
      .instances_known = [raw = gateway.get()] {
        raw->loop_.post([raw] {
          if (--raw->shards_without_instances_ == 0 && raw->listening_->replaces_another())
            raw->serve();
        });
      }};
  gateway->shards_ = std::make_unique<Shards>(loop, context, own.loops);
  gateway->shards_without_instances_ = gateway->shards_->count();
  auto sockets = gateway->listening_->for_clients();
  if (!sockets) return std::unexpected(sockets.error());
  if (Status opened = gateway->shards_->open_doors(std::move(*sockets), own.http); !opened)
    return std::unexpected(opened.error());
  if (Status opened = gateway->open_access(); !opened) return std::unexpected(opened.error());
  if (Status opened = gateway->open_admin(); !opened) return std::unexpected(opened.error());
  if (!gateway->listening_->replaces_another()) {
    if (Status offered = gateway->offer(); !offered) return std::unexpected(offered.error());
    loop.post([raw = gateway.get()] { raw->serve(); });
  }
  gateway->shards_->run();
  return gateway;
}

Gateway::Gateway(net::EventLoop& loop, GatewayOptions options)
    : loop_(loop), options_(std::move(options)), access_(options_.secret, metrics_) {
  options_.http.accepting = false;
  options_.http.holdings = std::make_shared<net::HttpHoldings>();
}

Gateway::~Gateway() {
  if (look_) loop_.cancel(*look_);
}

bool Gateway::close_log() { return !access_log_ || access_log_->close(); }

Status Gateway::open_certificate() {
  if (options_.certificate.certificate.empty()) return {};
  auto files = CertificateFiles::open(
      loop_, options_.certificate, metrics_, [this](const CertificateFiles::Context& context) {
        shards_->each([context](Shard& shard) { shard.use_tls(context); });
      });
  if (!files) return std::unexpected(files.error());
  certificate_ = std::move(*files);
  options_.http.tls = certificate_->context();
  return {};
}

Status Gateway::open_access() {
  if (options_.access_file.empty()) return {};
  auto file = KeysFile::open(loop_, options_.access_file,
                             [this](const protocol::AccessFile& keys) { use_access(keys); });
  if (!file) return std::unexpected(file.error());
  keys_file_ = std::move(*file);
  return {};
}

void Gateway::use_access(const protocol::AccessFile& file) {
  access_.use(file, loop_.now());
  shards_->each([views = access_.tenants()](Shard& shard) {
    for (const auto& view : views) shard.set_weight(view.caller.tenant, view.caller.weight);
  });
  log::info("access file: {} tenants, {} keys", file.tenants.size(), file.keys.size());
}

Status Gateway::open_admin() {
  if (!options_.admin) return {};
  AdminOptions admin = *options_.admin;
  admin.http.accepting = false;
  auto sockets = listening_->for_operators();
  if (!sockets) return std::unexpected(sockets.error());
  // An operator's drain waits for every answer: it is asked for when there is time.
  auto server = AdminServer::create(loop_, admin, std::move(*sockets), *shards_, access_,
                                    [this] { drain(options_.request_limit); });
  if (!server) return std::unexpected(server.error());
  admin_ = std::move(*server);
  return {};
}

void Gateway::serve() {
  if (end_by_) return;
  shards_->each([](Shard& shard) { shard.start_accepting(); });
  if (admin_) admin_->start_accepting();
  if (listening_->replaces_another()) {
    if (Status confirmed = listening_->confirm(); !confirmed)
      log::warn("{}", confirmed.error().message);
    if (Status offered = offer(); !offered)
      log::error("{}; no process can take over from this one", offered.error().message);
  }
  if (on_serving_) on_serving_();
}

Status Gateway::offer() {
  if (options_.handover_socket.empty()) return {};
  auto offer = net::DescriptorOffer::create(
      loop_, options_.handover_socket, [this] { return listening_->pack(); },
      [this] { hand_over(); });
  if (!offer)
    return error(offer.error().code,
                 fmt::format("[gateway] handover_socket: {}", offer.error().message));
  offer_ = std::move(*offer);
  return {};
}

void Gateway::hand_over() {
  log::info("another process has taken over; this one ends when its requests have");
  listening_->close();
  shards_->each([](Shard& shard) { shard.retire(); });
  if (admin_) admin_->stop_accepting();
  end_within(options_.request_limit);
}

void Gateway::drain(Duration limit) {
  offer_.reset();
  listening_->close();
  shards_->each([](Shard& shard) { shard.drain(); });
  end_within(limit);
}

void Gateway::end_within(Duration limit) {
  const Time by = loop_.now() + limit;
  const bool looking = end_by_.has_value();
  end_by_ = looking ? std::min(*end_by_, by) : by;
  if (!looking) look_for_end();
}

void Gateway::say_what_is_left(const std::vector<ShardHealth>& all) {
  if (loop_.now() < said_ + kEndLogGap) return;
  said_ = loop_.now();
  double requests = 0;
  int connections = 0;
  for (const ShardHealth& one : all) {
    requests += one.in_flight;
    connections += one.connections;
  }
  log::info("ending: {} requests and {} connections are left", requests, connections);
}

void Gateway::look_for_end() {
  look_.reset();
  const Time now = loop_.now();
  const auto end = [this] {
    if (const auto work = std::exchange(on_end_, nullptr)) work();
  };
  if (now >= *end_by_ + kLastWords) return end();
  if (now >= *end_by_) shards_->each([](Shard& shard) { shard.give_up(); });
  shards_->gather<ShardHealth>(
      loop_, [](Shard& shard) { return shard.health(); },
      [this, end](const std::vector<ShardHealth>& all) {
        if (std::ranges::all_of(all, &ShardHealth::idle)) return end();
        say_what_is_left(all);
        look_ = loop_.call_at(loop_.now() + kEndCheck, [this] { look_for_end(); });
      });
}

}  // namespace pd::gateway
