// A worker without a model: speaks the P/D protocol of src/protocol/pd_messages.h as a real one
// does, and computes nothing. Its answers are numbered tokens at a given pace. It also answers the
// OpenAI API itself, which is what a client sees with no gateway in between, and what makes it
// usable behind any other router. Loop thread only.
//
//   GET /pd/v1/legs, POST /pd/v1/renew     as a worker
//   POST /v1/chat/completions, /v1/completions           as a server; GET /v1/models, /health
//   GET  /metrics                                        prompts taken and rejected
//
// As a P it has no queue: who comes while all slots are taken is rejected. As a server it has one:
// prompts wait there for a slot, in the order of their arrival.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/result.h"
#include "bench/openai_answers.h"
#include "legs/leg_server.h"
#include "net/event_loop.h"
#include "net/http_server.h"
#include "policy/turns.h"
#include "protocol/pd_messages.h"

namespace pd::bench {

struct StubOptions {
  Duration prefill{0};            // from acceptance to the first token
  Duration prefill_per_token{0};  // added to it for each of the prompt's
  // Of a text as a gateway would count it; needed by the OpenAI API with prefill_per_token, which
  // then takes one text as prompt.
  std::function<std::size_t(const std::string&)> count_tokens;
  Pace pace;  // of the tokens after the first
  // Enough that no request waits: what is measured is the way, not the queue.
  int slots = 4096;
  int places = 4096;
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  // 0: the kernel chooses
};

// Which P holds what, and how it learns that a D has it: the part of the KV transport. Shared by
// the stubs of a process, which is why P and D must be stubs of one process.
class StubHandoffs {
 public:
  std::uint64_t hold(std::function<void()> pulled) {
    held_.emplace(++last_key_, std::move(pulled));
    return last_key_;
  }
  void drop(std::uint64_t key) { held_.erase(key); }
  // False: nobody holds it (any more).
  bool pull(std::uint64_t key) {
    auto node = held_.extract(key);
    if (node.empty()) return false;
    node.mapped()();
    return true;
  }

 private:
  std::map<std::uint64_t, std::function<void()>> held_;
  std::uint64_t last_key_ = 0;
};

class StubWorker {
 public:
  // Listens at once. `loop` and `handoffs` outlive it.
  static Result<std::unique_ptr<StubWorker>> create(net::EventLoop& loop, StubHandoffs& handoffs,
                                                    const StubOptions& options);
  ~StubWorker();

  std::uint16_t port() const { return server_->port(); }
  std::size_t held() const { return prefills_.size() + decodes_.size(); }

 private:
  struct Prefill {
    legs::LegReply reply;
    std::uint64_t key = 0;  // of what it holds; 0: not computed yet
    Time computed{};        // when its first token is due
  };
  // A prompt that came as a server's.
  struct Queued {
    net::HttpResponse response;
    Duration prefill{0};
    std::function<void()> answer;
  };

  StubWorker(net::EventLoop& loop, StubHandoffs& handoffs, const StubOptions& options);
  void handle(net::HttpRequest request, net::HttpResponse response);
  void begin_prefill(protocol::PrefillRequest request, legs::LegReply reply);
  void hand_out(const protocol::PrefillRequest& request);
  void release(const protocol::AttemptId& id, protocol::Released::Why why);
  void begin_decode(protocol::DecodeRequest request, legs::LegReply reply);
  // Writes the tokens from `next` to `count`, as a D does: one by one, or together.
  Stepper::Emit emit_each(const std::shared_ptr<legs::LegReply>& reply, std::uint32_t next,
                          std::uint32_t count);
  Stepper::Emit emit_gathered(const std::shared_ptr<legs::LegReply>& reply, std::uint32_t next,
                              std::uint32_t count);
  void end_decode(const protocol::AttemptId& id);
  void handle_renew(const net::HttpRequest& request, net::HttpResponse& response);
  void handle_generation(NumberedTokens::Kind kind, const net::HttpRequest& request,
                         net::HttpResponse response);
  Duration prefill_time(std::size_t prompt_tokens) const;
  void after(Duration time, std::function<void()> work);
  Duration time_until_a_slot() const;
  void compute_queued();

  net::EventLoop& loop_;
  StubHandoffs& handoffs_;
  StubOptions options_;
  OpenAiAnswers answers_;
  std::map<protocol::AttemptId, Prefill> prefills_;
  std::set<protocol::AttemptId> decodes_;
  policy::Turns<legs::LegPeer> prefill_turns_, decode_turns_;
  std::deque<Queued> queue_;
  int computing_ = 0;  // of those that came as a server's
  std::uint64_t taken_ = 0, rejected_ = 0;
  legs::LegServer legs_;
  std::unique_ptr<net::HttpServer> server_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace pd::bench
