// Load on an OpenAI API whose answers are numbered tokens: sends requests, reads every answer to
// its end, checks each token, and measures. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace pd::bench {

// Requests leave at their times whatever the server does, and a time counts from when the request
// was due: a server that stalls delays those behind it in the figures too (coordinated omission).
struct OpenLoop {
  double requests_per_second = 100;
  Duration length{std::chrono::seconds(10)};
  bool even = false;       // evenly spaced; otherwise a Poisson process
  std::uint64_t seed = 1;  // of that
};
// So many requests at any time, until all have been sent.
struct ClosedLoop {
  int at_once = 1;
  int requests = 1;
};

struct LoadOptions {
  std::string path = "/v1/completions";
  std::vector<std::string> bodies;  // taken in turn; each asks for `tokens` tokens; at least one
  std::uint32_t tokens = 16;
  bool streamed = true;
  // The answers are the stubs' numbers, and each is checked; otherwise any text will do.
  bool numbered = true;
  std::variant<OpenLoop, ClosedLoop> arrivals;
  // A request that takes longer is given up and counts as failed.
  Duration patience{std::chrono::seconds(30)};
};

// Times in milliseconds, sorted; of requests that did not fail.
struct LoadResult {
  std::vector<double> ttft_ms;  // due to first token
  std::vector<double> e2e_ms;   // due to the answer's end
  std::vector<double> gap_ms;   // one token to the next, of all streams
  std::vector<double> late_ms;  // due to sent: this client's own share of the above
  std::uint64_t sent = 0;
  std::uint64_t failed = 0;
  std::string failure;  // the first
  std::uint64_t tokens = 0;
  Duration length{0};  // first due to last end
};

// Runs `loop` until the load is over.
LoadResult run_load(net::EventLoop& loop, net::HttpClient& client, const net::HttpAddress& target,
                    const LoadOptions& options);

// Bodies of different prompts of that many bytes. `model`: as in the body; empty: none there.
std::vector<std::string> make_bodies(bool chat, bool streamed, std::uint32_t tokens,
                                     std::size_t prompt_bytes, const std::string& model = {});

}  // namespace pd::bench
