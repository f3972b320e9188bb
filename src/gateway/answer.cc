#include "gateway/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/rng.h"

namespace pd::gateway {

using policy::RequestEnd;
using policy::RequestPhase;
using protocol::ApiError;
using protocol::FinishReason;

namespace {

const std::vector<double> kSecondsBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                         0.5,   1,      2.5,   5,    10,    30,   60,  120};

Histogram stage_histogram(Metrics& metrics, std::string_view stage) {
  return metrics.histogram("pdserve_stage_seconds", "where the time of requests went",
                           kSecondsBounds, {{"stage", std::string(stage)}});
}

// What was being done with a request whose deadline passed.
std::string_view doing(RequestPhase phase) {
  switch (phase) {
    case RequestPhase::kWaitingPrefill:
      return "it waited for a prefill instance";
    case RequestPhase::kPrefilling:
      return "its prompt was being prefilled";
    case RequestPhase::kWaitingDecode:
      return "it waited for a decode instance";
    case RequestPhase::kJoining:
      return "its KV was on the way to a decode instance";
    case RequestPhase::kDecoding:
    case RequestPhase::kDone:
      break;
  }
  return "it was being decoded";
}

}  // namespace

AnswerMetrics::AnswerMetrics(Metrics& metrics)
    : received(metrics.counter("pdserve_requests_received_total", "API requests that came")),
      completed(
          metrics.counter("pdserve_requests_completed_total", "API requests answered in full")),
      failed(metrics.counter("pdserve_requests_failed_total",
                             "API requests ended by an error of ours")),
      rejected(metrics.counter("pdserve_requests_rejected_total",
                               "API requests refused: bad input or no capacity in time")),
      cancelled(
          metrics.counter("pdserve_requests_cancelled_total", "API requests whose client left")),
      poisoned(metrics.counter("pdserve_poison_requests_total",
                               "API requests ended because instances crashed under them")),
      prompt_tokens(
          metrics.counter("pdserve_prompt_tokens_total", "prompt tokens of completed requests")),
      cached_tokens(metrics.counter("pdserve_prompt_tokens_cached_total",
                                    "prompt tokens taken from a prefix cache")),
      output_tokens(
          metrics.counter("pdserve_output_tokens_total", "output tokens handed to clients")),
      in_flight(metrics.gauge("pdserve_requests_in_flight",
                              "API requests being prepared, waiting or running")),
      ttft(metrics.histogram("pdserve_ttft_seconds", "request received to first token written",
                             kSecondsBounds)),
      tpot(metrics.histogram("pdserve_tpot_seconds", "(end - first token) / (output tokens - 1)",
                             kSecondsBounds)),
      e2e(metrics.histogram("pdserve_e2e_seconds", "request received to answer complete",
                            kSecondsBounds)),
      prepare(stage_histogram(metrics, "prepare")),
      answer(stage_histogram(metrics, "answer")) {
  for (std::size_t i = 0; i < phases.size(); ++i)
    phases[i] = stage_histogram(metrics, stage_name(static_cast<RequestPhase>(i)));
}

ApiError to_api_error(const policy::Finish& finish) {
  const RequestEnd& end = finish.end;
  switch (end.why) {
    case RequestEnd::Why::kBusy:
      return {429, "rate_limit_error",
              "all instances are busy and none became free within the TTFT limit; try again later",
              "", "busy"};
    case RequestEnd::Why::kNoWorker:
      return {503, "server_error", "no instance is there to serve the request", "", "no_instance"};
    case RequestEnd::Why::kDeadline:
      return {504, "timeout_error",
              fmt::format("the request's deadline passed while {}", doing(finish.record.phase)), "",
              "deadline_exceeded"};
    case RequestEnd::Why::kPoison:
      return {
          500, "server_error",
          "instances crashed under this request, and it may be the cause; it is not tried again",
          "", "poison_request"};
    case RequestEnd::Why::kFailed:
      return protocol::to_api_error(end.error);
    case RequestEnd::Why::kCompleted:
    case RequestEnd::Why::kCancelled:  // its client has not left: it was ended here
      break;
  }
  return {503, "server_error", "the server shuts down and ended this request; retry elsewhere", "",
          "draining"};
}

Answer::Answer(const AnswerContext& context, PreparedRequest request,
               protocol::AnswerIdentity identity, net::HttpResponse response, Arrival arrival)
    : context_(context),
      request_(std::move(request)),
      identity_(std::move(identity)),
      response_(std::move(response)),
      arrival_(std::move(arrival)) {
  if (request_.api.stream)
    renderer_.emplace(identity_, request_.api.include_usage, request_.api.continuous_usage);
}

void Answer::start(const std::function<RequestId()>& next_id,
                   const std::function<std::uint64_t()>& next_seed,
                   const policy::Deadlines& deadlines) {
  const auto self = shared_from_this();
  started_ = context_.loop->now();
  context_.book->enter(identity_.id, self);
  last_written_ = started_;
  if (request_.api.stream) keep_alive_at(started_ + context_.keep_alive_after);
  response_.on_close([self] {
    if (self->closed_) return;
    self->close(&AnswerMetrics::cancelled, 499, "client_left");
    self->cancel_all();
  });
  std::vector<Job> jobs;
  for (std::size_t prompt = 0; prompt < request_.prompts.size(); ++prompt) {
    for (int i = 0; i < request_.api.n; ++i) {
      Job job{.id = next_id(),
              .prompt = request_.prompts[prompt],
              .sampling = request_.api.sampling,
              .tenant = arrival_.caller.tenant,
              .priority = arrival_.caller.priority,
              .tenant_salt = arrival_.caller.salt,
              .prefix = request_.prefixes[prompt],
              .deadlines = deadlines,
              .streamed = request_.api.stream};
      if (!request_.api.seed_given) job.sampling.seed = next_seed();
      // Choices of one prompt must differ, be the same again under the same seed, and not be those
      // of the next seed.
      else if (i > 0)
        job.sampling.seed = counter_random(job.sampling.seed, static_cast<std::uint64_t>(i));
      Choice choice;
      choice.id = job.id;
      choice.prompt = prompt;
      choices_.push_back(std::move(choice));
      jobs.push_back(std::move(job));
    }
  }
  for (std::size_t i = 0; i < jobs.size() && !closed_; ++i) {
    context_.driver->start(
        std::move(jobs[i]),
        {[self, i](const protocol::TokensFrame& frame) { self->on_tokens(i, frame); },
         [self, i](const protocol::Prefilled& prefilled) { self->on_prefilled(i, prefilled); },
         [self, i](const policy::Finish& finish) { self->on_job_end(i, finish); }});
  }
}

void Answer::on_prefilled(std::size_t index, const protocol::Prefilled& prefilled) {
  choices_[index].prompt_logprobs = prefilled.prompt_logprobs;
  // A prompt counts once, whatever the number of its choices, as OpenAI counts it.
  if (index % static_cast<std::size_t>(request_.api.n) == 0)
    cached_tokens_ += prefilled.cached_tokens;
}

void Answer::open_stream() {
  if (std::exchange(stream_open_, true)) return;
  std::vector<net::Header> headers = this->headers();
  headers.emplace_back("cache-control", "no-cache");
  headers.emplace_back("x-accel-buffering", "no");
  response_.start(200, "text/event-stream; charset=utf-8", headers);
  last_written_ = context_.loop->now();
}

void Answer::write(std::string_view bytes) {
  last_written_ = context_.loop->now();
  response_.write(bytes);
}

// One timer a stream, set anew only when it runs out: tokens cost nothing. A request that no P has
// taken yet says nothing: it may still be told 429.
void Answer::keep_alive() {
  const Time now = context_.loop->now();
  if (now - last_written_ < context_.keep_alive_after)
    return keep_alive_at(last_written_ + context_.keep_alive_after);
  if (!stream_open_ && std::ranges::none_of(choices_, [this](const Choice& choice) {
        const auto record = context_.driver->record(choice.id);
        return !record || record->phase != RequestPhase::kWaitingPrefill;
      }))
    return keep_alive_at(now + context_.keep_alive_after / 16);
  open_stream();
  write(": keep-alive\n\n");
  keep_alive_at(now + context_.keep_alive_after);
}

void Answer::keep_alive_at(Time when) {
  keep_alive_ = context_.loop->call_at(when, [weak = std::weak_ptr(shared_from_this())] {
    if (const auto self = weak.lock()) self->keep_alive();
  });
}

void Answer::open_choice(std::size_t index, std::string& out) {
  Choice& choice = choices_[index];
  if (std::exchange(choice.opened, true)) return;
  out += renderer_->first(static_cast<int>(index));
  if (!request_.api.echo) return;
  const std::string logprobs =
      request_.api.sampling.logprobs ? render_logprobs(choice, {}, true) : "";
  renderer_->append_chunk(out, static_cast<int>(index), request_.prompt_texts[choice.prompt],
                          logprobs, FinishReason::kNone, usage());
}

void Answer::on_tokens(std::size_t index, const protocol::TokensFrame& frame) {
  if (closed_) return;
  Choice& choice = choices_[index];
  const Time now = context_.loop->now();
  if (!first_token_) begin(now);
  last_token_ = now;
  choice.tokens += static_cast<std::int64_t>(frame.ids.size());
  choice.finish = frame.finish;
  context_.metrics->output_tokens.add(static_cast<double>(frame.ids.size()));
  if (!request_.api.stream) {
    choice.text += frame.text;
    choice.logprobs.insert(choice.logprobs.end(), frame.logprobs.begin(), frame.logprobs.end());
    return;
  }
  const bool logprobs = request_.api.sampling.logprobs.has_value() && !frame.logprobs.empty();
  std::string out;
  open_stream();
  open_choice(index, out);
  // A token whose text is still held back (inside a character, or a possible stop string) has
  // nothing to show.
  if (!frame.text.empty() || logprobs || frame.finish != FinishReason::kNone ||
      request_.api.continuous_usage) {
    const bool chat_end =
        frame.finish != FinishReason::kNone && identity_.kind == protocol::ApiRequest::Kind::kChat;
    const std::string rendered = logprobs ? render_logprobs(choice, frame.logprobs, false) : "";
    const protocol::Usage used = request_.api.continuous_usage ? usage() : protocol::Usage{};
    if (chat_end && (!frame.text.empty() || logprobs)) {
      renderer_->append_chunk(out, static_cast<int>(index), frame.text, rendered,
                              FinishReason::kNone, used);
      renderer_->append_chunk(out, static_cast<int>(index), "", "", frame.finish, used);
    } else {
      renderer_->append_chunk(out, static_cast<int>(index), frame.text, rendered, frame.finish,
                              used);
    }
  }
  if (!out.empty()) write(out);
}

// What has begun is not ended by a choice that waits for its turn: all of them are one answer.
void Answer::begin(Time now) {
  first_token_ = now;
  for (const Choice& choice : choices_) {
    if (choice.running && choice.tokens == 0) context_.driver->answer_begun(choice.id);
  }
}

std::string Answer::render_logprobs(Choice& choice,
                                    const std::vector<protocol::TokenLogprobs>& tokens,
                                    bool with_echo) const {
  const auto bytes_of = [this](TokenId id) { return context_.model->tokenizer.token_bytes(id); };
  if (identity_.kind == protocol::ApiRequest::Kind::kChat)
    return protocol::render_chat_logprobs(tokens, bytes_of);
  const auto& prompt = *request_.prompts[choice.prompt];
  if (!choice.text_of_tokens) {
    choice.text_of_tokens.emplace(context_.model->tokenizer);
    // Without the echo the text goes on behind the prompt: its last token's own text is not in it.
    if (!request_.api.echo) choice.text_of_tokens->append(prompt.back());
  }
  const auto growth = [&choice](TokenId id) {
    return protocol::code_points(choice.text_of_tokens->append(id));
  };
  if (!with_echo)
    return protocol::render_completion_logprobs({}, tokens, bytes_of, growth, choice.text_offset);
  std::vector<protocol::TokenLogprobs> all = choice.prompt_logprobs;
  all.insert(all.end(), tokens.begin(), tokens.end());
  return protocol::render_completion_logprobs({prompt.front()}, all, bytes_of, growth,
                                              choice.text_offset);
}

void Answer::on_job_end(std::size_t index, const policy::Finish& finish) {
  choices_[index].running = false;
  choices_[index].record = finish.record;
  if (closed_) return;
  if (finish.end.why == RequestEnd::Why::kPoison) context_.metrics->poisoned.add();
  if (finish.end.why != RequestEnd::Why::kCompleted) {
    failed_ = finish.record;
    fail(to_api_error(finish), finish.end.why == RequestEnd::Why::kBusy ? &AnswerMetrics::rejected
                                                                        : &AnswerMetrics::failed);
    return;
  }
  if (std::ranges::none_of(choices_, &Choice::running)) complete();
}

void Answer::cancel() {
  if (closed_) return;
  fail({503, "server_error", "an operator of this server ended the request", "",
        "cancelled_by_operator"},
       &AnswerMetrics::failed);
}

void Answer::complete() {
  const Time now = context_.loop->now();
  if (request_.api.stream) {
    std::string out;
    if (request_.api.include_usage) out += renderer_->usage_chunk(usage());
    out += protocol::StreamRenderer::done();
    write(out);
    response_.end();
  } else {
    std::vector<protocol::FinishedChoice> finished;
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      Choice& choice = choices_[i];
      std::string logprobs;
      if (request_.api.sampling.logprobs)
        logprobs = render_logprobs(choice, choice.logprobs, request_.api.echo);
      std::string text = request_.api.echo ? request_.prompt_texts[choice.prompt] : "";
      finished.push_back(
          {static_cast<int>(i), text + choice.text, std::move(logprobs), choice.finish});
    }
    settle(200);
    response_.send(200, "application/json", protocol::render_answer(identity_, finished, usage()),
                   headers());
  }
  const protocol::Usage used = usage();
  AnswerMetrics& m = *context_.metrics;
  m.prompt_tokens.add(static_cast<double>(used.prompt_tokens));
  m.cached_tokens.add(static_cast<double>(used.cached_tokens));
  m.e2e.observe(to_seconds(now - arrival_.received));
  if (first_token_) {
    m.ttft.observe(to_seconds(*first_token_ - arrival_.received));
    if (used.completion_tokens > 1) {
      m.tpot.observe(to_seconds(last_token_ - *first_token_) /
                     static_cast<double>(used.completion_tokens - 1));
    }
  }
  close(&AnswerMetrics::completed, 200);
}

void Answer::fail(const ApiError& error, Counter AnswerMetrics::* counter) {
  if (stream_open_) {
    write(protocol::StreamRenderer::error_event(error));
    response_.end();
  } else {
    settle(error.status);
    std::vector<net::Header> headers = this->headers();
    if (error.status == 429) {
      const double wait = std::ceil(to_seconds(context_.driver->expected_wait()));
      headers.emplace_back("retry-after",
                           fmt::format("{}", std::clamp(static_cast<int>(wait), 1, 60)));
    }
    response_.send(error.status, "application/json", to_json(error), headers);
  }
  close(counter, stream_open_ ? 200 : error.status, error.code.empty() ? error.type : error.code);
  cancel_all();
}

void Answer::cancel_all() {
  for (const Choice& choice : choices_) {
    if (choice.running) context_.driver->cancel(choice.id);
  }
}

// What its tenant pays for it: nothing when no instance has taken a leg of any choice. Before the
// headers that say what is left.
void Answer::settle(int status) {
  if (std::exchange(settled_, true)) return;
  const Time now = context_.loop->now();
  const protocol::Usage used = usage();
  if (std::ranges::any_of(choices_,
                          [this](const Choice& choice) { return record_of(choice).taken; }))
    return context_.access->count_output(arrival_.caller, Tokens(used.completion_tokens), now);
  context_.access->refund(arrival_.caller, status, arrival_.body, Tokens(used.prompt_tokens), now);
}

policy::RequestRecord Answer::record_of(const Choice& choice) const {
  return context_.driver->record(choice.id).value_or(choice.record);
}

std::vector<net::Header> Answer::headers() const {
  return answer_headers(*context_.access, arrival_, context_.loop->now());
}

void Answer::close(Counter AnswerMetrics::* counter, int status, const std::string& error_code) {
  closed_ = true;
  if (keep_alive_) context_.loop->cancel(*keep_alive_);
  (context_.metrics->*counter).add();
  context_.metrics->in_flight.set(context_.metrics->in_flight.value() - 1);
  RequestEntry ended = entry();
  ended.status = status;
  ended.error_code = error_code;
  count_stages(ended);
  settle(status);
  context_.access->release(arrival_.caller, arrival_.admitted, context_.loop->now());
  context_.book->leave(ended);
}

void Answer::count_stages(const RequestEntry& ended) {
  const AnswerMetrics& m = *context_.metrics;
  m.prepare.observe(to_seconds(ended.prepare));
  for (std::size_t i = 0; i < m.phases.size(); ++i) {
    if (ended.record.in_phase[i] > Duration{})
      m.phases[i].observe(to_seconds(ended.record.in_phase[i]));
  }
  if (ended.status == 200 && ended.error_code.empty()) {
    const Duration served = ended.prepare + ended.record.total();
    m.answer.observe(to_seconds(std::max(ended.total - served, Duration{})));
  }
}

RequestEntry Answer::entry() const {
  const Time now = context_.loop->now();
  const protocol::Usage used = usage();
  RequestEntry out;
  describe(arrival_, out);
  out.stream = request_.api.stream;
  out.choices = static_cast<int>(choices_.size());
  out.prompt_tokens = used.prompt_tokens;
  out.cached_tokens = used.cached_tokens;
  out.output_tokens = used.completion_tokens;
  out.prepare = started_ - arrival_.received;
  out.total = now - arrival_.received;
  if (first_token_) out.first_token = *first_token_ - arrival_.received;
  for (const Choice& choice : choices_) {
    const policy::RequestRecord record = record_of(choice);
    if (record.total() >= out.record.total()) out.record = record;
  }
  if (failed_) out.record = *failed_;
  return out;
}

protocol::Usage Answer::usage() const {
  protocol::Usage out;
  for (const auto& prompt : request_.prompts)
    out.prompt_tokens += static_cast<std::int64_t>(prompt->size());
  for (const Choice& choice : choices_) out.completion_tokens += choice.tokens;
  out.cached_tokens = cached_tokens_;
  return out;
}

}  // namespace pd::gateway
