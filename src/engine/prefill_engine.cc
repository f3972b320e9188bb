#include "engine/prefill_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pd::engine {
namespace {

policy::BatcherOptions within(policy::BatcherOptions options, const ForwardPass& model) {
  options.budget = std::min(options.budget, Tokens(model.rows_max()));
  return options;
}

Tokens length_of(std::span<const TokenId> tokens) {
  return Tokens(static_cast<std::int64_t>(tokens.size()));
}

std::span<const TokenId> first_of(const std::vector<TokenId>& tokens, Tokens length) {
  return std::span(tokens).first(static_cast<std::size_t>(length.value()));
}

}  // namespace

PrefillEngine::PrefillEngine(ForwardPass& model, const protocol::KvLayout& layout,
                             PrefixCache* cache, const PrefillEngineOptions& options)
    : model_(model),
      layout_(layout),
      cache_(cache),
      options_(options),
      batcher_(within(options.batcher, model)) {
  CHECK(options.logits_rows_max.value() >= 1);
}

Status PrefillEngine::add(PrefillJob job) {
  const Tokens length = length_of(job.tokens);
  if (job.tokens.empty()) {
    return error(ErrorCode::kInvalidArgument, "prompt: empty; send at least one token");
  }
  if (job.prompt_length.value() < 1 || job.prompt_length > length) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("prompt_length: {} is not within the {} tokens sent",
                             job.prompt_length.value(), length.value()));
  }
  for (const TokenId id : job.tokens) {
    if (id < 0 || id >= model_.vocab()) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("prompt: token id {} is outside the vocabulary of {}", id, model_.vocab()));
    }
  }
  if (job.range.capacity < length || static_cast<std::int64_t>(job.range.memory.size()) <
                                         layout_.range(job.range.capacity).value()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("KV range: {} bytes for {} positions do not hold {} tokens",
                             job.range.memory.size(), job.range.capacity.value(), length.value()));
  }
  const Tokens chunk_max = job.sampling.prompt_logprobs ? options_.logits_rows_max : length;
  if (!batcher_.add(job.id, length, chunk_max, job.deadline)) {
    return error(ErrorCode::kAlreadyExists, "prefill: this attempt is here already");
  }
  const policy::Holder id = job.id;
  jobs_.emplace(id, Running{std::move(job), Tokens(0), Tokens(0), std::nullopt, {}});
  return {};
}

bool PrefillEngine::cancel(const policy::Holder& id) {
  batcher_.remove(id);
  return jobs_.erase(id) > 0;
}

std::vector<PrefillEvent> PrefillEngine::step(Time now) {
  load_prefixes();
  const policy::PrefillPlan plan = batcher_.next(now);
  std::vector<PrefillEvent> events;
  for (const policy::Holder& id : plan.expired) {
    const auto it = jobs_.find(id);
    events.push_back(ended(PrefillEvent::Kind::kExpired, it->second));
    jobs_.erase(it);
  }
  if (plan.chunks.empty()) return events;

  std::vector<Segment> segments;
  for (const policy::PrefillChunk& chunk : plan.chunks) {
    Running& running = jobs_.at(chunk.job);
    if (!running.started) running.started = now;
    const bool last = running.done + chunk.tokens == length_of(running.job.tokens);
    const std::int64_t rows =
        running.wants_prompt_logits(running.done) ? chunk.tokens.value() : (last ? 1 : 0);
    segments.push_back(
        {std::span(running.job.tokens)
             .subspan(static_cast<std::size_t>(running.done.value()),
                      static_cast<std::size_t>(chunk.tokens.value())),
         running.done,
         KvView::contiguous(layout_, running.job.range.memory.data(), running.job.range.capacity),
         static_cast<std::int32_t>(rows)});
    progress_.tokens += static_cast<std::uint64_t>(chunk.tokens.value());
  }
  std::span<const float> logits = model_.forward(segments);
  ++progress_.iterations;

  const auto vocab = static_cast<std::size_t>(model_.vocab());
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    const std::size_t size = static_cast<std::size_t>(segments[i].logits_rows) * vocab;
    const auto it = jobs_.find(plan.chunks[i].job);
    std::optional<PrefillEvent> event =
        advance(it->second, plan.chunks[i].tokens, logits.first(size));
    logits = logits.subspan(size);
    if (!event) continue;
    progress_.cached += static_cast<std::uint64_t>(event->cached.value());
    events.push_back(std::move(*event));
    cancel(plan.chunks[i].job);
  }
  return events;
}

// Looked up until the first chunk is computed, not once at add(): jobs that came together share
// what the first of them has computed meanwhile.
void PrefillEngine::load_prefixes() {
  if (cache_ == nullptr) return;
  for (auto& [id, running] : jobs_) {
    if (running.started || running.job.sampling.prompt_logprobs) continue;
    const Tokens present =
        cache_->load(running.job.tenant_salt, running.job.tokens, running.job.range, running.done);
    batcher_.skip(id, present - running.done);
    running.done = running.cached = present;
  }
}

std::optional<PrefillEvent> PrefillEngine::advance(Running& running, Tokens tokens,
                                                   std::span<const float> rows) {
  const auto vocab = static_cast<std::size_t>(model_.vocab());
  const auto fail = [&](const Error& why) {
    PrefillEvent event = ended(PrefillEvent::Kind::kFailed, running);
    event.error = why;
    return event;
  };
  if (running.wants_prompt_logits(running.done)) {
    const Status scored = score_prompt(running, rows, static_cast<std::size_t>(tokens.value()));
    if (!scored) return fail(scored.error());
  }
  running.done += tokens;
  if (cache_ != nullptr) {
    cache_->store(running.job.tenant_salt, first_of(running.job.tokens, running.done),
                  running.job.range);
  }
  if (running.done < length_of(running.job.tokens)) return std::nullopt;

  const std::span<const TokenId> prompt = first_of(running.job.tokens, running.job.prompt_length);
  const SamplingHistory history{prompt, std::span(running.job.tokens).subspan(prompt.size())};
  Result<SampledToken> first =
      sample(rows.last(vocab), running.job.sampling, history, options_.eos);
  if (!first) return fail(first.error());
  PrefillEvent event = ended(PrefillEvent::Kind::kFinished, running);
  event.first = std::move(*first);
  return event;
}

// The row of position i is the model's opinion on token i + 1.
Status PrefillEngine::score_prompt(Running& running, std::span<const float> rows,
                                   std::size_t count) {
  const auto vocab = static_cast<std::size_t>(model_.vocab());
  for (std::size_t row = 0; row < count; ++row) {
    const Tokens position = running.done + Tokens(static_cast<std::int64_t>(row));
    if (!running.wants_prompt_logits(position)) break;
    const TokenId next = running.job.tokens[static_cast<std::size_t>(position.value()) + 1];
    Result<SampledToken> scored =
        score(rows.subspan(row * vocab, vocab), next, *running.job.sampling.prompt_logprobs);
    if (!scored) return std::unexpected(scored.error());
    running.prompt_logprobs.push_back(std::move(*scored));
  }
  return {};
}

bool PrefillEngine::Running::wants_prompt_logits(Tokens position) const {
  return job.sampling.prompt_logprobs && position + Tokens(1) < job.prompt_length;
}

PrefillEvent PrefillEngine::ended(PrefillEvent::Kind kind, Running& running) {
  PrefillEvent event;
  event.kind = kind;
  event.id = running.job.id;
  event.cached = running.cached;
  event.computed = running.done - running.cached;
  event.started = running.started;
  event.prompt_logprobs = std::move(running.prompt_logprobs);
  return event;
}

}  // namespace pd::engine
