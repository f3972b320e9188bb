#include "bench/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/rng.h"
#include "bench/token_checker.h"
#include "load/arrivals.h"

namespace pd::bench {
namespace {

constexpr int kBodies = 64;

struct Request {
  Request(bool streamed, bool numbered) : checker(streamed, numbered) {}
  net::HttpClient::CallId call = 0;
  Time due{};
  Time first{}, last{};  // tokens
  std::vector<double> gap_ms;
  int status = 0;
  TokenChecker checker;
};

class Load {
 public:
  Load(net::EventLoop& loop, net::HttpClient& client, const net::HttpAddress& target,
       const LoadOptions& options)
      : loop_(loop), client_(client), target_(target), options_(options) {
    CHECK(!options.bodies.empty());
  }

  LoadResult run() {
    start_ = loop_.now();
    if (const auto* open = std::get_if<OpenLoop>(&options_.arrivals)) {
      Rng rng(open->seed);
      const auto law =
          open->even ? load::OpenArrivals::Law::kEven : load::OpenArrivals::Law::kPoisson;
      due_ = load::arrival_times({.law = law, .rate = open->requests_per_second, .end_rate = {}},
                                 open->length, SIZE_MAX, rng);
      wanted_ = due_.size();
      send_due();
    } else {
      const auto& closed = std::get<ClosedLoop>(options_.arrivals);
      wanted_ = static_cast<std::uint64_t>(std::max(closed.requests, 0));
      for (int i = 0; i < closed.at_once && result_.sent < wanted_; ++i) send(loop_.now());
    }
    if (wanted_ > 0) loop_.run();
    result_.length = loop_.now() - start_;
    std::ranges::sort(result_.ttft_ms);
    std::ranges::sort(result_.e2e_ms);
    std::ranges::sort(result_.gap_ms);
    std::ranges::sort(result_.late_ms);
    return std::move(result_);
  }

 private:
  void send_due() {
    while (result_.sent < wanted_ && start_ + due_[result_.sent] <= loop_.now())
      send(start_ + due_[result_.sent]);
    if (result_.sent < wanted_) loop_.call_at(start_ + due_[result_.sent], [this] { send_due(); });
  }

  void send(Time due) {
    const std::uint64_t id = result_.sent++;
    result_.late_ms.push_back(to_ms(loop_.now() - due));
    net::HttpCall call;
    call.address = target_;
    call.target = options_.path;
    call.headers = {{"content-type", "application/json"}};
    call.body = options_.bodies[id % options_.bodies.size()];
    call.connect_timeout = options_.patience;
    call.read_timeout = options_.patience;
    net::HttpCallHandlers handlers;
    handlers.on_head = [this, id](int status, const std::vector<net::Header>&) {
      requests_.at(id).status = status;
    };
    handlers.on_data = [this, id](std::string_view bytes) {
      Request& request = requests_.at(id);
      const auto before = request.checker.tokens();
      request.checker.feed(bytes);
      const auto after = request.checker.tokens();
      if (after == before) return;
      if (before == 0) request.first = loop_.now();
      // Those that come together come at once.
      if (before > 0) request.gap_ms.push_back(to_ms(loop_.now() - request.last));
      request.gap_ms.resize(after - 1);
      request.last = loop_.now();
    };
    handlers.on_end = [this, id](const Status& outcome) { end(id, outcome); };
    Request& request =
        requests_.emplace(id, Request(options_.streamed, options_.numbered)).first->second;
    request.due = due;
    request.call = client_.call(std::move(call), std::move(handlers));
  }

  void end(std::uint64_t id, const Status& outcome) {
    Request request = std::move(requests_.extract(id).mapped());
    const Time now = loop_.now();
    const std::string verdict = request.checker.verdict(options_.tokens);
    result_.tokens += request.checker.tokens();
    std::string failure;
    if (!outcome)
      failure = outcome.error().message;
    else if (request.status != 200)
      failure = fmt::format("HTTP {}", request.status);
    else
      failure = verdict;
    if (!failure.empty()) {
      ++result_.failed;
      if (result_.failure.empty()) result_.failure = failure;
    } else {
      const Time first = options_.streamed ? request.first : now;
      if (options_.streamed)
        result_.gap_ms.insert(result_.gap_ms.end(), request.gap_ms.begin(), request.gap_ms.end());
      result_.ttft_ms.push_back(to_ms(first - request.due));
      result_.e2e_ms.push_back(to_ms(now - request.due));
    }
    if (++ended_ == wanted_) return loop_.stop();
    const bool closed = std::holds_alternative<ClosedLoop>(options_.arrivals);
    if (closed && result_.sent < wanted_) send(now);
  }

  net::EventLoop& loop_;
  net::HttpClient& client_;
  const net::HttpAddress& target_;
  const LoadOptions& options_;
  Time start_{};
  std::vector<Duration> due_;
  std::uint64_t wanted_ = 0;
  std::uint64_t ended_ = 0;
  std::unordered_map<std::uint64_t, Request> requests_;
  LoadResult result_;
};

}  // namespace

LoadResult run_load(net::EventLoop& loop, net::HttpClient& client, const net::HttpAddress& target,
                    const LoadOptions& options) {
  return Load(loop, client, target, options).run();
}

std::vector<std::string> make_bodies(bool chat, bool streamed, std::uint32_t tokens,
                                     std::size_t prompt_bytes, const std::string& model) {
  static constexpr std::string_view kWords[] = {"once",   "upon", "a",    "time",  "there", "was",
                                                "little", "girl", "who",  "liked", "to",    "play",
                                                "in",     "the",  "park", "with",  "her",   "dog"};
  Rng rng(1);
  std::vector<std::string> out;
  for (int i = 0; i < kBodies; ++i) {
    std::string prompt;
    while (prompt.size() < prompt_bytes)
      prompt.append(kWords[rng.below(std::size(kWords))]).append(" ");
    prompt.resize(prompt_bytes);
    const std::string what =
        chat ? fmt::format(R"("messages":[{{"role":"user","content":"{}"}}])", prompt)
             : fmt::format(R"("prompt":"{}")", prompt);
    const std::string named = model.empty() ? "" : fmt::format(R"("model":"{}",)", model);
    out.push_back(
        fmt::format(R"({{{}{},"max_tokens":{},"stream":{}}})", named, what, tokens, streamed));
  }
  return out;
}

}  // namespace pd::bench
