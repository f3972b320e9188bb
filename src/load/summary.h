// What a load comes to: exact figures over its records, as a value, JSON and a table. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "load/record.h"
#include "load/slo.h"

namespace pd::load {

// One measured quantity, in milliseconds. Percentiles are of all values, sorted (nearest rank).
struct Distribution {
  std::uint64_t count = 0;
  double mean = 0, least = 0, most = 0;
  double p50 = 0, p90 = 0, p95 = 0, p99 = 0, p999 = 0;
  // The value at 0, 0.5, 1, ... 100 %: the shape, for plots. Empty without values.
  std::vector<double> quantiles;
};
Distribution distribution_of(std::vector<double> values);

// One second of the load. A request counts in the second in which it was due.
struct Second {
  std::uint64_t offered = 0, completed = 0, within_slo = 0, rejected = 0, failed = 0, accepted = 0;
  double output_tokens = 0;  // arrived in this second, spread evenly over each answer
};

struct Summary {
  std::map<std::string, std::string> setting;  // what was asked for, in words
  Slo slo;
  // Two lengths, both from the load's start: how long requests were sent, and until the last whole
  // answer, or until sending ended or the load was stopped if that is later. One that is given up
  // late prolongs neither.
  double sending_s = 0, length_s = 0;
  std::uint64_t offered = 0, completed = 0, rejected = 0, failed = 0, timed_out = 0;
  std::uint64_t accepted = 0;    // completed, or failed after the server had begun to answer
  std::uint64_t refused = 0;     // of the failed: HTTP 4xx but 429
  std::uint64_t unfinished = 0;  // under way when the load was stopped
  std::uint64_t undecided = 0;   // of these: no limit had passed yet
  std::uint64_t within_slo = 0;
  std::uint64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;  // of completed ones
  std::uint64_t without_usage = 0;    // of completed ones: their tokens are pieces of text
  Distribution ttft, tpot, itl, e2e;  // of completed ones
  Distribution late;                  // due to sent: this client's own share of them
  std::vector<Second> seconds;
  std::map<std::string, std::uint64_t> errors;  // message -> how many, the ten most frequent
  std::string first_error;                      // of the first request that did not complete

  // What was asked for, per second of sending; 0 if all was sent at once.
  double offered_rate() const { return per_second(offered, sending_s); }
  // What came of it, per second of the whole length.
  double rate(std::uint64_t count) const { return per_second(count, length_s); }
  // Per second, and share of the cached ones; nullopt: not every server's word is there.
  std::optional<double> prompt_rate() const {
    return without_usage > 0 ? std::nullopt : std::optional(rate(prompt_tokens));
  }
  std::optional<double> cached_share() const {
    return without_usage > 0 ? std::nullopt : std::optional(share(cached_tokens, prompt_tokens));
  }
  // The load does not fit the server: its figures say nothing of the server's speed.
  bool mostly_refused() const { return share(refused, offered) >= 0.9; }
  // Those without a whole answer that never gets one: they have no times.
  std::uint64_t unanswered() const { return rejected + failed; }
  // Of the offered whose outcome is known; nullopt: of none. One that was cut short counts as
  // missed where a limit had passed, and else not at all: a stall must not look like a success.
  std::optional<double> goodput_share() const {
    return offered > undecided ? std::optional(share(within_slo, offered - undecided))
                               : std::nullopt;
  }
  double share(std::uint64_t count, std::uint64_t whole) const {
    return whole > 0 ? static_cast<double>(count) / static_cast<double>(whole) : 0;
  }
  static double per_second(std::uint64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
  }
};

// `sending_s`: for how long it was to send; 0, or a later due time: until the last was due.
Summary summarize(const std::vector<Record>& records, const Slo& slo,
                  std::map<std::string, std::string> setting, double sending_s = 0);

std::string to_table(const Summary& summary);
std::string to_json(const Summary& summary);
Result<Summary> read_summary(std::string_view json, std::string_view name);

}  // namespace pd::load
