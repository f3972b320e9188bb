// The life of one request (one choice of it): which leg runs where, what ends it. Pure: events in,
// actions out; told the time, holds no token and no text. The dispatcher places legs and feeds it;
// gateway and simulator drive the same code.
//
//   waiting-prefill ─place─▶ prefilling ─first token─▶ waiting-decode ─place─▶ joining ─Joined─▶
//   decoding ─▶ done
//        ▲                      │ rejected, fault           │ lease ended         │ rejected:
//        waiting-decode └──────────────────────┴───────────────────────────┴──── fault, evicted
//        ─┴────────────┘
//
// A prefill that takes too long may be hedged: a second P computes the same, and the first of the
// two to have the first token is the prefill leg from then on; the other is cancelled.
//
// A leg is one placement on one worker; its number is unique within the request and travels as
// AttemptId::attempt. Events of a leg that is no longer held are ignored: that is what makes a late
// answer of a worker given up harmless.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "base/units.h"

namespace pd::policy {

using LegNumber = std::uint32_t;

enum class RequestPhase : std::uint8_t {
  kWaitingPrefill,
  kPrefilling,
  kWaitingDecode,  // P holds the KV under a lease
  kJoining,        // D accepted or was asked; it pulls
  kDecoding,
  kDone,
};

struct RequestEnd {
  enum class Why : std::uint8_t {
    kCompleted,
    kBusy,       // no place within the TTFT limit: 429
    kNoWorker,   // nobody to serve it: 503
    kDeadline,   // the absolute deadline passed
    kCancelled,  // the client left, or an operator cancelled
    kPoison,     // two workers crashed under it (G8)
    kFailed,     // `error` says what
  };
  Why why = Why::kCompleted;
  Error error;  // kFailed and kPoison: the last fault
};

struct RequestLimits {
  // So many workers that crashed under it end it (G8): it may be the cause, and the next placement
  // would take one more down.
  int crashes_to_poison = 2;
  // One that died before it had accepted a leg may never have seen it: it counts half. So a request
  // survives two instances that go down together while its legs are on the way to both.
  int deaths_on_receipt_per_crash = 2;
  // New legs for any cause but a rejection or an instance that could not be reached (crashes,
  // evictions, ended leases, refusals).
  int restarts_max = 8;
};

// How a leg's end leaves its worker.
enum class Blame : std::uint8_t {
  kNobody,         // the worker is well
  kBroke,          // gone, silent, or failed inside
  kDiedOnReceipt,  // gone, and the leg had been sent to it: it may be the cause
};

// What the dispatcher must do.
struct CancelLeg {
  LegNumber leg = 0;
  WorkerId worker;
};

class RequestLife {
 public:
  struct Leg {
    LegNumber number = 0;
    WorkerId worker;
    bool accepted = false;
  };

  explicit RequestLife(const RequestLimits& limits) : limits_(limits) {}

  RequestPhase phase() const { return phase_; }
  bool done() const { return phase_ == RequestPhase::kDone; }
  const std::optional<RequestEnd>& end() const { return end_; }
  std::uint32_t emitted() const { return emitted_; }  // output tokens so far
  // Workers that crashed under it: each once, however many of its legs went with it.
  int crashes() const { return static_cast<int>(crashed_.size()); }
  bool taken() const { return taken_; }  // an instance has worked for it, or has said it will
  int restarts() const { return restarts_; }
  int evictions() const { return evictions_; }  // D was short of memory; among the restarts
  // Of the restarts, those that begin with a prefill and are not the first after a worker's crash,
  // the first eviction, or the first leg that was denied: a request would have none of these if all
  // went well elsewhere, so they are what the retry budget is for (G8).
  int charged() const { return charged_; }
  const std::optional<Leg>& prefill_leg() const { return prefill_; }
  const std::optional<Leg>& hedge_leg() const { return hedge_; }  // beside the prefill leg
  const std::optional<Leg>& decode_leg() const { return decode_; }

  std::optional<WorkerId> worker_of(LegNumber leg) const;  // nullopt: not held
  bool accepted(LegNumber leg) const;                      // false, too, when it is not held

  // Placement: the caller chose a worker. Phase must be the matching waiting one.
  LegNumber place_prefill(WorkerId worker);
  LegNumber place_decode(WorkerId worker);
  // Phase kPrefilling, and no hedge runs.
  LegNumber place_hedge(WorkerId worker);

  // What legs report; a stale leg number changes nothing.
  void on_accepted(LegNumber leg);
  void on_rejected(LegNumber leg);
  // `count` tokens whose first has output index `index`. False: stale or doubled, the caller must
  // drop them. A gap is a fault of the worker. `finished`: the last of them ends the request.
  bool on_tokens(LegNumber leg, std::uint32_t index, std::uint32_t count, bool finished);
  // The first token is out and P holds the KV.
  void on_prefilled(LegNumber leg);
  void on_joined(LegNumber leg);
  void on_released(LegNumber leg, bool pulled);
  void on_evicted(LegNumber leg);
  // The leg is over without more to come. A fault that blames the request (invalid, unsupported,
  // too large, too late) ends it; any other costs a restart. A worker that broke has crashed if it
  // had accepted the leg, or may have died of it. If not, it costs nothing; who places the next one
  // sees to it that such workers are asked ever less often, and that the time for it ends. A P
  // whose KV D has may do what it likes.
  void on_fault(LegNumber leg, const Error& fault, Blame blame);
  // The worker lives and holds no such leg: it has given it up unheard, or was never reached by it.
  // The first that it had accepted costs no more than a crash does; one that it had not, nothing.
  void on_denied(LegNumber leg);

  // Ends it from outside; cancels every leg. No effect when done.
  void finish(RequestEnd end);

  // Legs to cancel since the last call, in the order in which they were given up.
  std::vector<CancelLeg> take_cancelled();

 private:
  bool holds(const std::optional<Leg>& leg, LegNumber number) const {
    return leg && leg->number == number;
  }
  // A leg that prefills while the phase is kPrefilling; the hedge becomes the prefill leg.
  bool prefills(LegNumber number);
  void drop(std::optional<Leg>& leg);
  void restart(bool charged = true);
  bool placed_again();  // false: that was once too often, and it is finished
  // Counts a crash: whether the worker had crashed under it before; nullopt: it has ended.
  std::optional<bool> crashed_again(WorkerId worker, const Error& fault);
  bool survives_death_on_receipt(WorkerId worker, const Error& fault);  // false: it has ended
  bool poisoned(const Error& fault);
  void refused(const Error& fault);
  void on_hedged_fault(LegNumber leg, const Error& fault, Blame blame);

  RequestLimits limits_;
  RequestPhase phase_ = RequestPhase::kWaitingPrefill;
  std::optional<Leg> prefill_, hedge_, decode_;
  std::optional<RequestEnd> end_;
  LegNumber next_leg_ = 1;
  std::uint32_t emitted_ = 0;
  std::vector<WorkerId> crashed_, died_on_receipt_;
  bool taken_ = false;
  bool denied_ = false;
  int restarts_ = 0;
  int evictions_ = 0;
  int charged_ = 0;
  std::vector<CancelLeg> cancelled_;
};

}  // namespace pd::policy
