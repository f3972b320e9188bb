#include "exactness/pd_pair.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"
#include "engine/decode_engine.h"
#include "engine/engine_test_kit.h"
#include "engine/prefill_engine.h"
#include "transfer/scatter.h"

namespace pd::exactness {
namespace {

using engine::DecodeEvent;
using engine::PrefillEvent;
using engine::test::holder;
using engine::test::OwnedRange;

Tokens length_of(const std::vector<TokenId>& tokens) {
  return Tokens(static_cast<std::int64_t>(tokens.size()));
}

std::vector<TokenId> joined(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  std::vector<TokenId> out = a;
  out.insert(out.end(), b.begin(), b.end());
  return out;
}

class Pair {
 public:
  Pair(engine::ForwardPass& model, const protocol::KvLayout& layout, ThreadPool& threads,
       const PairSettings& settings, const std::vector<Request>& requests)
      : layout_(layout),
        settings_(settings),
        requests_(requests),
        blocks_(BlockCount(settings.pool_blocks), Tokens(layout.block_tokens), evicting()) {
    auto cache = engine::PrefixCache::create(layout, Tokens(16),
                                             layout.range(Tokens(16)) * settings.cache_blocks);
    CHECK(cache.has_value());
    cache_ = std::make_unique<engine::PrefixCache>(std::move(*cache));
    auto pool = engine::KvPool::create(layout, BlockCount(settings.pool_blocks));
    CHECK(pool.has_value());
    pool_ = std::make_unique<engine::KvPool>(std::move(*pool));
    engine::PrefillEngineOptions prefill;
    prefill.batcher.budget = Tokens(settings.chunk);
    prefill_ = std::make_unique<engine::PrefillEngine>(model, layout, cache_.get(), prefill);
    engine::DecodeEngineOptions decode;
    decode.batch_max = settings.batch;
    decode_ = std::make_unique<engine::DecodeEngine>(model, *pool_, blocks_, threads, decode);
    for (const Request& request : requests) result_.outputs.push_back(request.emitted);
  }

  PairResult run() {
    std::vector<std::size_t> order(requests_.size());
    std::iota(order.begin(), order.end(), 0);
    Rng rng(settings_.order);
    for (std::size_t i = order.size(); settings_.order != 0 && i > 1; --i) {
      std::swap(order[i - 1], order[rng.below(i)]);
    }
    waiting_.assign(order.begin(), order.end());
    while (!waiting_.empty() || !prefill_->idle() || !ready_.empty() || !decode_->idle()) {
      for (int i = 0; i < settings_.prefill_steps; ++i) {
        start_prefills();
        for (PrefillEvent& event : prefill_->step(Time{})) prefilled(event);
        join_batch();
      }
      for (DecodeEvent& event : decode_->step(Time{})) decoded(event);
    }
    CHECK(blocks_.free() == blocks_.total());
    return std::move(result_);
  }

 private:
  struct InFlight {
    std::size_t request = 0;
    std::vector<TokenId> tokens;
    std::unique_ptr<OwnedRange> range;
  };
  static policy::KvBlocksOptions evicting() {
    policy::KvBlocksOptions options;
    options.look_ahead = false;
    return options;
  }
  const Request& of(const policy::Holder& id) const { return requests_[id.request.low]; }
  bool finished(std::size_t request) const {
    return length_of(result_.outputs[request]) >= requests_[request].sampling.max_tokens;
  }

  void start_prefills() {
    while (!waiting_.empty() && in_flight_.size() < settings_.slots) {
      const std::size_t request = waiting_.front();
      waiting_.pop_front();
      const policy::Holder id = holder(request, ++attempts_);
      InFlight flight{request, joined(requests_[request].prompt, result_.outputs[request]), {}};
      flight.range = std::make_unique<OwnedRange>(layout_, length_of(flight.tokens));
      engine::PrefillJob job{id,
                             flight.tokens,
                             length_of(requests_[request].prompt),
                             requests_[request].sampling,
                             1,
                             flight.range->view(),
                             Time::max()};
      CHECK(prefill_->add(std::move(job)).has_value());
      in_flight_.emplace(id, std::move(flight));
    }
  }

  void prefilled(const PrefillEvent& event) {
    CHECK(event.kind == PrefillEvent::Kind::kFinished);
    result_.counts.cached += static_cast<std::uint64_t>(event.cached.value());
    result_.counts.computed += static_cast<std::uint64_t>(event.computed.value());
    result_.outputs[event.id.request.low].push_back(event.first.id);
    if (finished(event.id.request.low)) {
      in_flight_.erase(event.id);
    } else {
      ready_.push_back(event.id);
    }
  }

  void join_batch() {
    while (!ready_.empty() && decode_->jobs() < decode_->batch_max()) {
      const policy::Holder id = ready_.front();
      const InFlight& flight = in_flight_.at(id);
      const Tokens length = length_of(flight.tokens);
      const auto& output = result_.outputs[flight.request];
      const policy::KvAdmission answer =
          blocks_.admit(id, {length, length_of(output), of(id).sampling.max_tokens});
      CHECK(answer == policy::KvAdmission::kAccepted || answer == policy::KvAdmission::kBusy);
      if (answer == policy::KvAdmission::kBusy) return;
      for (int layer = 0; layer < layout_.layers; ++layer) {
        transfer::scatter_layer({pool_->layout(), pool_->planes()}, blocks_.table(id),
                                flight.range->bytes(), length, layer);
      }
      engine::DecodeJob job{id, length, output, of(id).prompt, of(id).sampling, Time::max()};
      CHECK(decode_->admit(std::move(job)).has_value());
      in_flight_.erase(id);
      ready_.pop_front();
    }
  }

  void decoded(const DecodeEvent& event) {
    const std::size_t request = event.id.request.low;
    if (event.kind == DecodeEvent::Kind::kEvicted) {
      ++result_.counts.evicted;
      waiting_.push_back(request);
      return;
    }
    CHECK(event.kind == DecodeEvent::Kind::kToken);
    CHECK(event.index == result_.outputs[request].size());
    result_.outputs[request].push_back(event.token.id);
    if (!finished(request)) return;
    CHECK(decode_->remove(event.id));
    blocks_.release(event.id, true);
  }

  protocol::KvLayout layout_;
  const PairSettings& settings_;
  const std::vector<Request>& requests_;
  policy::KvBlocks blocks_;
  std::unique_ptr<engine::PrefixCache> cache_;
  std::unique_ptr<engine::KvPool> pool_;
  std::unique_ptr<engine::PrefillEngine> prefill_;
  std::unique_ptr<engine::DecodeEngine> decode_;
  std::uint32_t attempts_ = 0;
  std::deque<std::size_t> waiting_;
  std::map<policy::Holder, InFlight> in_flight_;
  std::deque<policy::Holder> ready_;
  PairResult result_;
};

}  // namespace

PairResult run_pair(engine::ForwardPass& model, const protocol::KvLayout& layout,
                    ThreadPool& threads, const PairSettings& settings,
                    const std::vector<Request>& requests) {
  return Pair(model, layout, threads, settings, requests).run();
}

Output run_alone(engine::ForwardPass& model, const protocol::KvLayout& layout,
                 const Request& request) {
  const Tokens capacity = length_of(request.prompt) + request.sampling.max_tokens;
  OwnedRange range(layout, capacity);
  const engine::KvView kv =
      engine::KvView::contiguous(layout, range.view().memory.data(), capacity);
  std::vector<TokenId> next = request.prompt;
  Tokens position(0);
  Output output;
  while (length_of(output) < request.sampling.max_tokens) {
    const engine::Segment segment{next, position, kv, 1};
    const auto token = engine::sample(model.forward(std::span(&segment, 1)), request.sampling,
                                      {request.prompt, output}, {});
    CHECK(token.has_value());
    position += length_of(next);
    next = {token->id};
    output.push_back(token->id);
  }
  return output;
}

}  // namespace pd::exactness
