#include "engine/decode_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace pd::engine {

DecodeEngine::DecodeEngine(ForwardPass& model, const KvPool& pool, policy::KvBlocks& blocks,
                           ThreadPool& threads, const DecodeEngineOptions& options)
    : model_(model), pool_(pool), blocks_(blocks), threads_(threads), options_(options) {
  CHECK(pool.blocks() == blocks.total());
  CHECK(pool.layout().block_tokens == blocks.block_tokens().value());
  options_.batch_max =
      std::min(options.batch_max, static_cast<std::size_t>(std::max(model.rows_max(), 1)));
}

Status DecodeEngine::admit(DecodeJob job) {
  if (arrivals_.contains(job.id)) {
    return error(ErrorCode::kAlreadyExists, "decode: this attempt is here already");
  }
  if (jobs_.size() >= options_.batch_max) {
    return error(ErrorCode::kNoCapacity,
                 fmt::format("decode: all {} places of the batch are taken", options_.batch_max));
  }
  if (job.emitted.empty()) {
    return error(ErrorCode::kInvalidArgument, "emitted: empty; the prefill's token must be there");
  }
  for (const TokenId id : job.emitted) {
    if (id < 0 || id >= model_.vocab()) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("emitted: token id {} is outside the vocabulary of {}", id, model_.vocab()));
    }
  }
  const std::span<const BlockIndex> table = blocks_.table(job.id);
  const std::int64_t room =
      static_cast<std::int64_t>(table.size()) * blocks_.block_tokens().value();
  if (job.kv_length.value() < 1 || job.kv_length.value() >= room) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("decode: blocks for {} positions do not hold {} and the next one",
                             room, job.kv_length.value()));
  }
  arrivals_.emplace(job.id, next_arrival_);
  const bool placed_again = job.emitted.size() > 1;
  jobs_.emplace(next_arrival_++,
                Running{std::move(job), placed_again, {table.begin(), table.end()}});
  return {};
}

bool DecodeEngine::remove(const policy::Holder& id) {
  const auto it = arrivals_.find(id);
  if (it == arrivals_.end()) return false;
  drop(it->second);
  return true;
}

std::vector<DecodeEvent> DecodeEngine::begin_step(Time now) {
  std::vector<DecodeEvent> events;
  for (const auto& [arrival, running] : jobs_) {
    if (running.job.deadline <= now) {
      events.push_back({DecodeEvent::Kind::kExpired, running.job.id, 0, {}, {}});
    }
  }
  for (const DecodeEvent& event : events) remove(event.id);
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    const Arrival arrival = it->first;  // evictions remove jobs, this one too
    while (!take_block(arrival, events)) {
    }
    it = jobs_.upper_bound(arrival);
  }
  return events;
}

// True: the job has room for its next token, or is no longer there. False: another one made room,
// try again.
bool DecodeEngine::take_block(Arrival arrival, std::vector<DecodeEvent>& events) {
  const auto it = jobs_.find(arrival);
  if (it == jobs_.end()) return true;
  Running& running = it->second;
  const policy::Holder id = running.job.id;
  blocks_.on_output(id, Tokens(static_cast<std::int64_t>(running.job.emitted.size())));
  if (blocks_.grow(id, running.job.kv_length + Tokens(1))) {
    const std::span<const BlockIndex> table = blocks_.table(id);
    // Tables only grow at their end.
    running.table.insert(running.table.end(),
                         table.begin() + static_cast<std::ptrdiff_t>(running.table.size()),
                         table.end());
    return true;
  }
  if (blocks_.holders() == 1) {
    Error why{ErrorCode::kTooLarge,
              fmt::format("decode: {} tokens of KV fill the whole pool of {} blocks: lower "
                          "max_tokens or give the decode worker more KV memory",
                          running.job.kv_length.value(), blocks_.total().value())};
    events.push_back({DecodeEvent::Kind::kFailed, id, 0, {}, std::move(why)});
    drop(arrival);
    return true;
  }
  std::vector<policy::EvictionCandidate> candidates;
  for (const auto& [joined, other] : jobs_) {
    const Tokens output(static_cast<std::int64_t>(other.job.emitted.size()));
    candidates.push_back({other.job.id, other.placed_again, output, joined, other.job.evictions});
  }
  const policy::Holder victim = policy::choose_victim(candidates);
  events.push_back({DecodeEvent::Kind::kEvicted, victim, 0, {}, {}});
  remove(victim);
  blocks_.evict(victim);
  return false;
}

std::vector<DecodeEvent> DecodeEngine::run_step() {
  std::vector<DecodeEvent> events;
  if (jobs_.empty()) return events;
  std::vector<Segment> segments;
  std::vector<Running*> batch;
  for (auto& [arrival, running] : jobs_) {
    const auto room = static_cast<std::int64_t>(running.table.size()) * pool_.layout().block_tokens;
    CHECK(running.job.kv_length.value() < room);  // begin_step() came before
    segments.push_back({std::span(running.job.emitted).last(1), running.job.kv_length,
                        KvView::paged(pool_.layout(), pool_.planes(), running.table), 1});
    batch.push_back(&running);
  }
  const std::span<const float> logits = model_.forward(segments);
  ++progress_.iterations;
  progress_.tokens += batch.size();

  const auto vocab = static_cast<std::size_t>(model_.vocab());
  std::vector<std::optional<Result<SampledToken>>> sampled(batch.size());
  threads_.parallel_for(batch.size(), [&](std::size_t i) {
    const DecodeJob& job = batch[i]->job;
    sampled[i] = sample(logits.subspan(i * vocab, vocab), job.sampling, {job.prompt, job.emitted},
                        options_.eos);
  });
  for (std::size_t i = 0; i < batch.size(); ++i) {
    DecodeJob& job = batch[i]->job;
    Result<SampledToken>& token = *sampled[i];
    if (!token) {
      events.push_back({DecodeEvent::Kind::kFailed, job.id, 0, {}, token.error()});
      remove(events.back().id);
      continue;
    }
    const auto index = static_cast<std::uint32_t>(job.emitted.size());
    job.kv_length += Tokens(1);
    job.emitted.push_back(token->id);
    events.push_back({DecodeEvent::Kind::kToken, job.id, index, std::move(*token), {}});
  }
  return events;
}

std::vector<DecodeEvent> DecodeEngine::step(Time now) {
  std::vector<DecodeEvent> events = begin_step(now);
  for (DecodeEvent& event : run_step()) events.push_back(std::move(event));
  return events;
}

void DecodeEngine::drop(Arrival arrival) {
  const auto it = jobs_.find(arrival);
  arrivals_.erase(it->second.job.id);
  jobs_.erase(it);
}

}  // namespace pd::engine
