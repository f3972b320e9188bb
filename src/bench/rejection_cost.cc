// rejection_cost: what it costs a prefill instance to reject a request it has no slot for.
//   rejection_cost --controller 127.0.0.1:9000 --secret-file DIR/secret --instance 4711
//
// Asks the controller for the group, fills every slot of its first prefill instance with requests
// whose KV nobody pulls, and then asks it one by one, on one connection, as a gateway does. Prints
// the time until each rejection was read, and the CPU time of the instance for one of them.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "base/log.h"
#include "base/mapped_file.h"
#include "bench/process_use.h"
#include "legs/leg_channel.h"
#include "net/http_client.h"
#include "protocol/pd_messages.h"
#include "protocol/topology.h"

namespace {

using namespace pd;

struct Flags {
  std::string controller, secret_file;
  int requests = 5000;
  int tokens = 400;
  int instance = 0;  // process id
};

class Asker {
 public:
  Asker(net::EventLoop& loop, const net::HttpAddress& address, const std::string& secret,
        std::uint64_t layout_hash, int tokens)
      : loop_(loop),
        client_(loop),
        channel_(client_, address, secret,
                 {.on_frame =
                      [this](const protocol::LegFrame& frame) {
                        if (frame.leg == request_.id) on_frame(frame.frame);
                      },
                  .on_read = [] {},
                  .on_lost = [this](const Error& lost) { decide(std::unexpected(lost)); }}) {
    request_.layout_hash = layout_hash;
    request_.deadline_ms = 60'000;
    for (int i = 0; i < tokens; ++i) request_.prompt.push_back(TokenId(10 + i % 100));
  }
  // True: accepted, and held until this ends. False: rejected.
  Result<bool> ask() {
    request_.id = {{static_cast<std::uint64_t>(::getpid()), ++number_}, 1};  // of this run
    verdict_.reset();
    channel_.start(request_);
    loop_.run();
    return *verdict_;
  }

 private:
  void on_frame(const protocol::Frame& frame) {
    if (verdict_) return;
    if (const auto* fault = std::get_if<protocol::Fault>(&frame))
      return decide(error(ErrorCode::kUnavailable, fault->message));
    decide(std::holds_alternative<protocol::Accepted>(frame));
  }
  void decide(Result<bool> verdict) {
    verdict_ = std::move(verdict);
    loop_.stop();
  }

  net::EventLoop& loop_;
  net::HttpClient client_;
  legs::LegChannel channel_;
  protocol::PrefillRequest request_;
  std::optional<Result<bool>> verdict_;
  std::uint64_t number_ = 0;
};

int fail(const Error& error) {
  fmt::print(stderr, "rejection_cost: {}\n", error.message);
  return 1;
}

Result<protocol::Topology> topology_of(const Flags& flags, const std::string& secret) {
  const auto controller = net::parse_address(flags.controller);
  if (!controller) return std::unexpected(controller.error());
  net::HttpCall call;
  call.address = *controller;
  call.method = "GET";
  call.target = "/cluster/v1/topology?after=0&fence=0";
  call.headers = {{"authorization", "Bearer " + secret}};
  const auto answer = net::fetch_blocking(std::move(call));
  if (!answer) return std::unexpected(answer.error());
  return protocol::parse_topology(answer->body);
}

int run(const Flags& flags) {
  auto secret = read_file(flags.secret_file, 4096);
  if (!secret) return fail(secret.error());
  while (secret->ends_with('\n')) secret->pop_back();
  const auto topology = topology_of(flags, *secret);
  if (!topology) return fail(topology.error());
  const auto at = std::ranges::find(topology->instances, Role::kPrefill, &protocol::Instance::role);
  if (at == topology->instances.end())
    return fail({ErrorCode::kNotFound, "the group has no prefill instance"});
  const auto address = net::parse_address(at->address);
  if (!address) return fail(address.error());

  net::EventLoop loop;
  Asker asker(loop, *address, *secret, topology->layout_hash, flags.tokens);
  while (true) {
    const auto accepted = asker.ask();
    if (!accepted) return fail(accepted.error());
    if (!*accepted) break;
  }
  std::vector<double> milliseconds;
  const auto before = bench::process_cpu_seconds(flags.instance);
  if (!before) return fail(before.error());
  for (int i = 0; i < flags.requests; ++i) {
    const Time begin = SteadyTime::now();
    const auto accepted = asker.ask();
    if (!accepted) return fail(accepted.error());
    // A lease has ended, and its slot is taken again: no rejection.
    if (!*accepted) milliseconds.push_back(to_seconds(SteadyTime::now() - begin) * 1000);
  }
  const auto after = bench::process_cpu_seconds(flags.instance);
  if (!after) return fail(after.error());
  std::ranges::sort(milliseconds);
  const auto quantile = [&](double q) {
    return milliseconds[static_cast<std::size_t>(q * static_cast<double>(milliseconds.size() - 1))];
  };
  fmt::print(
      "{} rejections of {} tokens: read after p50 {:.3f} ms, p99 {:.3f} ms; CPU of the instance "
      "{:.3f} "
      "ms each\n",
      milliseconds.size(), flags.tokens, quantile(0.5), quantile(0.99),
      (*after - *before) * 1000 / flags.requests);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("what a rejection costs a prefill instance");
  Flags flags;
  app.add_option("--controller", flags.controller, "HOST:PORT")->required();
  app.add_option("--secret-file", flags.secret_file, "the cluster's secret")->required();
  app.add_option("--instance", flags.instance, "process id of the prefill instance")->required();
  app.add_option("--requests", flags.requests, "how many")->check(CLI::PositiveNumber);
  app.add_option("--tokens", flags.tokens, "of each prompt")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  log::configure("rejection_cost", log::Level::kWarn);
  return run(flags);
}
