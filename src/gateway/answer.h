// One API request being answered: its choices run as jobs, what they emit becomes SSE chunks or one
// JSON body. Lives until the response has ended and every job is over. Loop thread only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/time.h"
#include "gateway/arrival.h"
#include "gateway/leg_driver.h"
#include "gateway/prepare.h"
#include "gateway/request_book.h"
#include "model/tokenizer/tokenizer.h"
#include "net/http_server.h"
#include "protocol/openai_response.h"

namespace pd::gateway {

// The gateway's counters, which conserve requests at every scrape:
// received = completed + failed + rejected + cancelled + in flight.
struct AnswerMetrics {
  explicit AnswerMetrics(Metrics& metrics);
  Counter received, completed, failed, rejected, cancelled;
  Counter poisoned;  // among the failed
  Counter prompt_tokens, cached_tokens, output_tokens;
  Gauge in_flight;
  Histogram ttft, tpot, e2e;
  // Each for those that were in it, however they ended.
  Histogram prepare, answer;
  std::array<Histogram, 5> phases;  // by policy::RequestPhase but kDone
};

struct AnswerContext {
  net::EventLoop* loop = nullptr;
  LegDriver* driver = nullptr;
  const model::Model* model = nullptr;
  AnswerMetrics* metrics = nullptr;
  Access* access = nullptr;
  RequestBook* book = nullptr;
  Duration keep_alive_after{};  // a stream that is silent for so long says that it lives
};

class Answer : public OpenRequest, public std::enable_shared_from_this<Answer> {
 public:
  // The caller's admission is released when it has ended.
  Answer(const AnswerContext& context, PreparedRequest request, protocol::AnswerIdentity identity,
         net::HttpResponse response, Arrival arrival);

  // Starts every choice. `next_id` and `next_seed` draw from the gateway's generator.
  void start(const std::function<RequestId()>& next_id,
             const std::function<std::uint64_t()>& next_seed, const policy::Deadlines& deadlines);

  RequestEntry entry() const override;
  const std::string& client_id() const override { return arrival_.client_id; }
  void cancel() override;

 private:
  struct Choice {
    RequestId id;
    std::size_t prompt = 0;
    bool running = true;
    bool opened = false;                                   // its first chunk was sent
    std::string text;                                      // whole answers only
    std::vector<protocol::TokenLogprobs> logprobs;         // whole answers only
    std::vector<protocol::TokenLogprobs> prompt_logprobs;  // echo
    std::int64_t text_offset = 0;
    std::optional<model::StreamDecoder> text_of_tokens;  // of completions with logprobs
    protocol::FinishReason finish = protocol::FinishReason::kNone;
    std::int64_t tokens = 0;
    policy::RequestRecord record;  // once it has ended
  };

  void on_prefilled(std::size_t index, const protocol::Prefilled& prefilled);
  void on_tokens(std::size_t index, const protocol::TokensFrame& frame);
  void begin(Time now);
  void on_job_end(std::size_t index, const policy::Finish& finish);
  void open_stream();
  void open_choice(std::size_t index, std::string& out);
  void write(std::string_view bytes);
  void keep_alive();
  void keep_alive_at(Time when);
  void fail(const protocol::ApiError& error, Counter AnswerMetrics::* counter);
  void complete();
  void cancel_all();
  void settle(int status);
  policy::RequestRecord record_of(const Choice& choice) const;
  void count_stages(const RequestEntry& ended);
  std::vector<net::Header> headers() const;
  void close(Counter AnswerMetrics::* counter, int status, const std::string& error_code = "");
  std::string render_logprobs(Choice& choice, const std::vector<protocol::TokenLogprobs>& tokens,
                              bool with_echo) const;
  protocol::Usage usage() const;

  AnswerContext context_;
  PreparedRequest request_;
  protocol::AnswerIdentity identity_;
  net::HttpResponse response_;
  std::optional<protocol::StreamRenderer> renderer_;  // of a stream
  std::vector<Choice> choices_;
  Arrival arrival_;
  Time started_{};                               // prepared, and on its way to an instance
  std::optional<policy::RequestRecord> failed_;  // of the choice whose end ended them all
  std::optional<Time> first_token_;
  Time last_token_{};
  Time last_written_{};
  std::optional<net::EventLoop::TimerId> keep_alive_;
  std::int64_t cached_tokens_ = 0;
  bool stream_open_ = false;
  bool settled_ = false;  // what it costs its tenant
  bool closed_ = false;
};

// What a client is told about a request that did not complete.
protocol::ApiError to_api_error(const policy::Finish& finish);

}  // namespace pd::gateway
