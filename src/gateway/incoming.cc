#include "gateway/incoming.h"

#include <utility>

namespace pd::gateway {

using protocol::ApiError;

Incoming::Incoming(const AnswerContext& context, protocol::ApiRequest::Kind kind, Arrival arrival,
                   net::HttpResponse response)
    : context_(context), kind_(kind), arrival_(std::move(arrival)), response_(std::move(response)) {
  context_.metrics->received.add();
  context_.metrics->in_flight.set(context_.metrics->in_flight.value() + 1);
}

bool Incoming::admit(Caller caller) {
  arrival_.caller = std::move(caller);
  arrival_.admitted = context_.loop->now();
  const auto refusal = context_.access->admit(arrival_.caller, arrival_.body, arrival_.admitted);
  admitted_ = !refusal;
  if (refusal) end_over_limit(*refusal);
  return admitted_;
}

bool Incoming::admit_tokens(Tokens prompts) {
  const auto refusal =
      context_.access->admit_tokens(arrival_.caller, prompts, arrival_.body, context_.loop->now());
  if (refusal) end_over_limit(*refusal);
  return !refusal;
}

void Incoming::wait(Time limit, const ApiError& late) {
  const std::weak_ptr<Incoming> weak = weak_from_this();
  timer_ = context_.loop->call_at(limit, [weak, late] {
    const auto self = weak.lock();
    if (!self) return;
    self->timer_.reset();
    self->end(late);
  });
  response_->on_close([weak] {
    const auto self = weak.lock();
    if (!self || self->over()) return;
    self->context_.access->refund(self->arrival_.caller, 499, self->arrival_.body, {},
                                  self->context_.loop->now());
    self->close(499, "client_left", &AnswerMetrics::cancelled);
  });
  context_.book->enter(arrival_.id, shared_from_this());
}

void Incoming::end(const ApiError& error) { finish(error, {}, &AnswerMetrics::rejected); }

void Incoming::end_over_limit(const Refusal& refusal) {
  finish(refusal.error, refusal.retry_after, &AnswerMetrics::rejected);
}

void Incoming::cancel() {
  finish({503, "server_error", "an operator of this server ended the request", "",
          "cancelled_by_operator"},
         {}, &AnswerMetrics::failed);
}

void Incoming::finish(const ApiError& error, Duration wait, Counter AnswerMetrics::* counter) {
  if (over()) return;
  const Time now = context_.loop->now();
  if (admitted_) context_.access->refund(arrival_.caller, error.status, arrival_.body, {}, now);
  std::vector<net::Header> headers = answer_headers(*context_.access, arrival_, now);
  if (error.status == 429) headers.push_back(retry_after(wait));
  if (response_->open()) {
    response_->send(error.status, "application/json", to_json(error), headers);
    return close(error.status, error.code.empty() ? error.type : error.code, counter);
  }
  close(499, "client_left", &AnswerMetrics::cancelled);
}

void Incoming::close(int status, const std::string& code, Counter AnswerMetrics::* counter) {
  if (over()) return;
  RequestEntry ended = entry();
  ended.status = status;
  ended.error_code = code;
  response_.reset();
  *wanted_ = false;
  if (timer_) context_.loop->cancel(*std::exchange(timer_, std::nullopt));
  if (admitted_) context_.access->release(arrival_.caller, arrival_.admitted, context_.loop->now());
  (context_.metrics->*counter).add();
  context_.metrics->in_flight.set(context_.metrics->in_flight.value() - 1);
  context_.book->leave(ended);
}

net::HttpResponse Incoming::pass_on() {
  if (timer_) context_.loop->cancel(*std::exchange(timer_, std::nullopt));
  net::HttpResponse response = std::move(*response_);
  response_.reset();
  return response;
}

RequestEntry Incoming::entry() const {
  RequestEntry out;
  describe(arrival_, out);
  out.preparing = true;
  out.prepare = out.total = context_.loop->now() - arrival_.received;
  return out;
}

}  // namespace pd::gateway
