// What became of each request: the raw result of a load, a line of JSON each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pd::load {

struct Record {
  enum class Outcome {
    kCompleted,
    kRejected,    // 429 or 503: no capacity, told so
    kFailed,      // anything else that is no whole answer
    kTimedOut,    // given up by this client
    kUnfinished,  // under way when the load was stopped
  };
  std::uint64_t index = 0;
  std::uint64_t conversation = 0;
  std::uint32_t turn = 0;  // of the conversation, from 0
  // Seconds from the load's start. Times below count from `due_s`, not from `sent_s`: a client that
  // was held up must not make the server look better (coordinated omission).
  double due_s = 0;
  double sent_s = 0;
  Outcome outcome = Outcome::kFailed;
  int status = 0;  // of HTTP; 0: no answer
  std::string error;
  double ttft_ms = 0;         // to the first text; of an answer that is not streamed: to its end
  double e2e_ms = 0;          // to the end, whatever it was
  std::vector<float> itl_ms;  // between pieces of text, streamed answers
  std::uint32_t prompt_tokens = 0;  // as the server counts
  std::uint32_t cached_tokens = 0;
  std::uint32_t output_tokens = 0;  // without the server's word: pieces of text
  bool has_usage = true;            // the server has said what it counted

  // The server took it on: it began to answer with 200, whatever came of it.
  bool accepted() const { return status == 200; }
  // HTTP 4xx but 429: asked again, it would be refused again.
  bool refused() const { return status >= 400 && status < 500 && status != 429; }
  bool completed() const { return outcome == Outcome::kCompleted; }
  // Of answers with at least two tokens; not of one that came whole, whose first token nobody saw.
  bool has_tpot() const { return completed() && output_tokens > 1 && e2e_ms > ttft_ms; }
  double tpot_ms() const { return (e2e_ms - ttft_ms) / (output_tokens - 1.0); }
};

std::string_view to_string(Record::Outcome outcome);
std::string to_json_line(const Record& record);
Result<Record> read_record(std::string_view line);

}  // namespace pd::load
