#include "bench/stepper.h"

#include <algorithm>
#include <utility>

namespace pd::bench {
namespace {

// A free-running stream stops to write when so much waits for its reader.
constexpr Bytes kUnsentMax{64 * 1024};

}  // namespace

Stepper::Stepper(net::EventLoop& loop, const Pace& pace) : loop_(loop), pace_(pace) {}

Stepper::~Stepper() {
  *alive_ = false;
  if (timer_) loop_.cancel(*timer_);
}

void Stepper::add(std::optional<net::HttpResponse> response, Emit emit) {
  Stream stream{std::move(response), std::move(emit)};
  if (pace_.step == Duration{0}) return run_freely(std::make_shared<Stream>(std::move(stream)));
  streams_.push_back(std::move(stream));
  if (timer_) return;
  next_ = loop_.now() + pace_.step;
  timer_ = loop_.call_at(next_, [this] { step(); });
}

void Stepper::step() {
  timer_.reset();
  std::erase_if(streams_, [](Stream& stream) { return !stream.emit(1); });
  if (streams_.empty()) return;
  // On the grid, so that the pace is exact; a step that took too long is not made up for.
  next_ = std::max(next_ + pace_.step, loop_.now());
  timer_ = loop_.call_at(next_, [this] { step(); });
}

void Stepper::run_freely(const std::shared_ptr<Stream>& stream) {
  if (!stream->emit(pace_.burst)) return;
  const auto again = [this, stream, alive = alive_] {
    if (*alive) run_freely(stream);
  };
  if (stream->response && stream->response->unsent() > kUnsentMax)
    stream->response->on_drained(again);
  else
    loop_.post(again);
}

}  // namespace pd::bench
