// A request for an answer on its way from the door to its Answer, while its body is read. Here it
// can end early: it is refused, its client leaves, its time passes, an operator ends it. However it
// does, it is counted once, has one line in the access log, and its caller's place is free again.
// Loop thread only.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/answer.h"
#include "gateway/request_book.h"
#include "net/http_server.h"
#include "protocol/api_error.h"
#include "protocol/openai_request.h"

namespace pd::gateway {

class Incoming : public OpenRequest, public std::enable_shared_from_this<Incoming> {
 public:
  // It is counted as received and in flight.
  Incoming(const AnswerContext& context, protocol::ApiRequest::Kind kind, Arrival arrival,
           net::HttpResponse response);

  protocol::ApiRequest::Kind kind() const { return kind_; }
  const Arrival& arrival() const { return arrival_; }
  bool over() const { return !response_.has_value(); }  // it has ended, or been passed on

  // Takes the caller's place, which is given back at the end; false: over the caller's limits, and
  // it has been told so.
  bool admit(Caller caller);
  // Its body waits to be read by another thread: at `limit` it ends with `late`. Until then it can
  // be found in the book.
  void wait(Time limit, const protocol::ApiError& late);
  // False as soon as nobody waits for it any more. From any thread.
  std::shared_ptr<const std::atomic<bool>> wanted() const { return wanted_; }

  // Its prompts have so many tokens; false: over the caller's limits, as admit().
  bool admit_tokens(Tokens prompts);
  void end(const protocol::ApiError& error);
  // To an Answer, which from now on has the caller's place.
  net::HttpResponse pass_on();

  RequestEntry entry() const override;
  const std::string& client_id() const override { return arrival_.client_id; }
  void cancel() override;

 private:
  void end_over_limit(const Refusal& refusal);
  void finish(const protocol::ApiError& error, Duration wait, Counter AnswerMetrics::* counter);
  void close(int status, const std::string& code, Counter AnswerMetrics::* counter);

  const AnswerContext context_;
  const protocol::ApiRequest::Kind kind_;
  Arrival arrival_;
  std::optional<net::HttpResponse> response_;
  std::shared_ptr<std::atomic<bool>> wanted_ = std::make_shared<std::atomic<bool>>(true);
  std::optional<net::EventLoop::TimerId> timer_;
  bool admitted_ = false;
};

}  // namespace pd::gateway
