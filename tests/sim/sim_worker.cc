#include "sim_worker.h"

#include <algorithm>
#include <utility>

namespace pd::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;

SimWorker::SimWorker(VirtualTime& time, const Shape& shape, std::uint64_t seed, Send send,
                     Vacant vacant)
    : time_(time),
      shape_(shape),
      rng_(seed),
      send_(std::move(send)),
      vacant_(std::move(vacant)),
      slots_({.slots = shape.slots}),
      blocks_(shape.blocks, Tokens(16), {}) {}

void SimWorker::run(std::function<void()> what) {
  if (!alive_) return;
  if (frozen_)
    held_back_.push_back(std::move(what));
  else
    what();
}

void SimWorker::later(Duration delay, std::function<void()> what) {
  time_.after(delay, [this, what = std::move(what)] { run(what); });
}

void SimWorker::thaw() {
  if (!alive_) return;
  frozen_ = false;
  for (auto& what : std::exchange(held_back_, {})) what();
}

void SimWorker::prefill(const Ask& ask) {
  run([this, ask] {
    expire();
    const auto answer = slots_.ask(ask.holder, ask.prompt, time_.now());
    if (answer.kind == policy::SlotAnswer::Kind::kBusy) {
      prefill_turns_.on_rejected(ask.gateway, time_.now());
      return send_(ask.holder, Rejected{answer.hint});
    }
    if (answer.kind == policy::SlotAnswer::Kind::kDuplicate)
      return send_(ask.holder, LegFault{ErrorCode::kAlreadyExists, false});
    prefill_turns_.on_accepted(ask.gateway);
    leases_.grant(ask.holder, time_.now());
    send_(ask.holder, Accepted{});
    later(microseconds(50) * ask.prompt.value(), [this, ask] {
      expire();
      if (!slots_.holds(ask.holder)) return;
      const bool finished = ask.emitted + 1 >= ask.total;
      slots_.on_prefilled(ask.holder, time_.now());
      if (finished)
        release(ask.holder, true);
      else
        ready_.insert(ask.holder);
      send_(ask.holder, Token{ask.emitted, finished});
    });
    later(milliseconds(5001), [this] { expire(); });
  });
}

void SimWorker::decode(const Ask& ask, const Holder& source, SimWorker* p) {
  run([this, ask, source, p] {
    expire();
    const auto places = static_cast<int>(blocks_.holders());
    const auto admitted =
        places >= shape_.places
            ? policy::KvAdmission::kBusy
            : blocks_.admit(ask.holder, {ask.prompt + Tokens(ask.emitted) - Tokens(1),
                                         Tokens(ask.emitted), Tokens(ask.total), ask.evictions});
    if (admitted == policy::KvAdmission::kTooLarge)
      return send_(ask.holder, LegFault{ErrorCode::kTooLarge, false});
    send_(ask.holder, room());
    if (admitted != policy::KvAdmission::kAccepted) {
      decode_turns_.on_rejected(ask.gateway, time_.now());
      return send_(ask.holder, Rejected{milliseconds(5)});
    }
    decode_turns_.on_accepted(ask.gateway);
    leases_.grant(ask.holder, time_.now());
    send_(ask.holder, Accepted{});
    later(microseconds(200 + rng_.below(2000)), [this, ask, source, p] {
      if (!blocks_.holds(ask.holder)) return;
      if (!p->alive() || !p->holds_kv(source)) {
        release(ask.holder, false);
        return send_(ask.holder, LegFault{ErrorCode::kUnavailable, false});
      }
      time_.after(microseconds(100), [p, source] { p->pulled(source); });
      send_(ask.holder, Joined{});
      batch_[ask.holder] = {ask.prompt,  ask.emitted,     ask.total,
                            arrivals_++, ask.emitted > 1, ask.evictions};
      if (!std::exchange(stepping_, true)) later(milliseconds(1), [this] { step(); });
    });
    later(milliseconds(5001), [this] { expire(); });
  });
}

void SimWorker::step() {
  expire();
  std::vector<Holder> members;
  for (const auto& [holder, running] : batch_) members.push_back(holder);
  for (const Holder& holder : members) {
    if (!batch_.contains(holder)) continue;  // made room for one before it
    Running& running = batch_.at(holder);
    while (batch_.contains(holder) &&
           !blocks_.grow(holder, running.prompt + Tokens(running.emitted)))
      make_room();
    if (!batch_.contains(holder)) continue;
    const std::uint32_t index = running.emitted++;
    blocks_.on_output(holder, Tokens(running.emitted));
    const bool finished = running.emitted >= running.total;
    if (finished) {
      release(holder, true);
      send_(holder, room());
    }
    send_(holder, Token{index, finished});
  }
  stepping_ = !batch_.empty();
  if (stepping_) later(microseconds(500 + rng_.below(1000)), [this] { step(); });
}

Room SimWorker::room() const {
  const auto held = static_cast<std::int64_t>(blocks_.holders());
  const BlockCount spare =
      blocks_.need() < blocks_.total() ? blocks_.total() - blocks_.need() : BlockCount(0);
  return {{.requests = held,
           .places = shape_.places - held,
           .free = blocks_.free(),
           .spare = std::min(spare, blocks_.free()),
           .block_tokens = blocks_.block_tokens(),
           .growth = blocks_.growth()}};
}

void SimWorker::make_room() {
  std::vector<policy::EvictionCandidate> candidates;
  for (const auto& [holder, running] : batch_)
    candidates.push_back({holder, running.placed_again, Tokens(running.emitted), running.arrival,
                          running.evictions});
  const Holder victim = policy::choose_victim(candidates);
  batch_.erase(victim);
  blocks_.evict(victim);
  leases_.drop(victim);
  send_(victim, Evicted{});
}

void SimWorker::cancel(const Holder& holder) {
  run([this, holder] { release(holder, false); });
}

void SimWorker::pulled(const Holder& holder) {
  run([this, holder] {
    if (!ready_.contains(holder)) return;
    release(holder, true);
    send_(holder, Released{true});
  });
}

void SimWorker::renew(const std::vector<Holder>& held,
                      std::function<void(std::vector<Holder>)> answer) {
  run([this, held, answer = std::move(answer)] {
    expire();
    std::vector<Holder> unknown;
    for (const Holder& holder : held) {
      if (!leases_.renew(holder, time_.now())) unknown.push_back(holder);
    }
    later(milliseconds(5001), [this] { expire(); });
    answer(unknown);
  });
}

void SimWorker::release(const Holder& holder, bool finished) {
  const bool prefilled = slots_.holds(holder), decoded = blocks_.holds(holder);
  leases_.drop(holder);
  ready_.erase(holder);
  batch_.erase(holder);
  slots_.release(holder, finished, time_.now());
  blocks_.release(holder, finished);
  const Time now = time_.now();
  if (prefilled)
    for (const std::size_t gateway : prefill_turns_.on_free(now)) vacant_(gateway, std::nullopt);
  if (decoded)
    for (const std::size_t gateway : decode_turns_.on_free(now)) vacant_(gateway, room());
}

void SimWorker::expire() {
  for (const Holder& holder : leases_.expire(time_.now())) {
    const bool on_prefill = slots_.holds(holder);
    release(holder, false);
    if (on_prefill)
      send_(holder, Released{false});
    else
      send_(holder, LegFault{ErrorCode::kCancelled, false});
  }
}

}  // namespace pd::sim
