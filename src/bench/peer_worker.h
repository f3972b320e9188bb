// A worker without a model as P/D routers of other projects expect one behind them, as fast as the
// stubs of our own protocol (stub_worker.h), so that a benchmark compares routers and nothing else.
// Prefill and decode really are two halves of a request: D answers only what its P has had.
// Loop thread only.
//
//   SGLang  the router sends a request to P and D at the same time, with a room of its own making
//   in
//           both (bootstrap_room); neither goes on before the other has come. P answers one token.
//   vLLM    the router sends it to P first (kv_transfer_params.do_remote_decode, one token); P's
//           answer names what it holds, which D finds in its kv_transfer_params.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/result.h"
#include "base/units.h"
#include "bench/openai_answers.h"
#include "bench/stub_worker.h"
#include "net/event_loop.h"
#include "net/http_server.h"
#include "protocol/topology.h"

namespace pd::bench {

enum class PeerManner : std::uint8_t { kSglang, kVllm };

// How the halves of a request find each other; shared by the workers of a process.
class PeerHandoffs {
 public:
  // The second half to come lets both go on, P first.
  void meet(std::uint64_t room, Role role, std::function<void()> go_on);
  // A half whose request is gone.
  void leave(std::uint64_t room, Role role);

  std::uint64_t hold();
  bool pull(std::uint64_t key) { return held_.erase(key) > 0; }  // false: nobody holds it

  std::size_t waiting() const { return rooms_.size() + held_.size(); }

 private:
  struct Half {
    Role role;
    std::function<void()> go_on;
  };
  std::map<std::uint64_t, Half> rooms_;
  std::set<std::uint64_t> held_;
  std::uint64_t last_key_ = 0;
};

class PeerWorker {
 public:
  // Listens at once and says that it serves `model`. Of the options: prefill, pace, host, port.
  // `loop` and `handoffs` outlive it.
  static Result<std::unique_ptr<PeerWorker>> create(net::EventLoop& loop, PeerHandoffs& handoffs,
                                                    PeerManner manner, Role role,
                                                    const std::string& model,
                                                    const StubOptions& options);
  ~PeerWorker();

  std::uint16_t port() const { return server_->port(); }

 private:
  struct Generation;  // a request, as far as a worker has to know it

  PeerWorker(net::EventLoop& loop, PeerHandoffs& handoffs, PeerManner manner, Role role,
             const std::string& model, const StubOptions& options);
  void handle(const net::HttpRequest& request, net::HttpResponse response);
  void handle_generation(NumberedTokens::Kind kind, const net::HttpRequest& request,
                         net::HttpResponse response);
  void generate_sglang(const Generation& generation, net::HttpResponse response);
  void generate_vllm(const Generation& generation, net::HttpResponse response);
  void after_prefill(std::function<void()> work);

  net::EventLoop& loop_;
  PeerHandoffs& handoffs_;
  PeerManner manner_;
  Role role_;
  StubOptions options_;
  std::string models_, info_;  // what it says about itself
  OpenAiAnswers answers_;
  std::unique_ptr<net::HttpServer> server_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace pd::bench
