#include "load/record.h"

#include <fmt/format.h>

#include <array>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace pd::load {
namespace {

constexpr std::array kOutcomes{Record::Outcome::kCompleted, Record::Outcome::kRejected,
                               Record::Outcome::kFailed, Record::Outcome::kTimedOut,
                               Record::Outcome::kUnfinished};

}  // namespace

std::string_view to_string(Record::Outcome outcome) {
  switch (outcome) {
    case Record::Outcome::kCompleted:
      return "completed";
    case Record::Outcome::kRejected:
      return "rejected";
    case Record::Outcome::kFailed:
      return "failed";
    case Record::Outcome::kTimedOut:
      return "timed_out";
    case Record::Outcome::kUnfinished:
      return "unfinished";
  }
  return "?";
}

std::string to_json_line(const Record& r) {
  std::string out = fmt::format(
      R"({{"index":{},"conversation":{},"turn":{},"due_s":{:.6f},"sent_s":{:.6f},"outcome":"{}",)"
      R"("status":{},"ttft_ms":{:.3f},"e2e_ms":{:.3f},"prompt_tokens":{},"cached_tokens":{},)"
      R"("output_tokens":{},"has_usage":{},"error":")",
      r.index, r.conversation, r.turn, r.due_s, r.sent_s, to_string(r.outcome), r.status, r.ttft_ms,
      r.e2e_ms, r.prompt_tokens, r.cached_tokens, r.output_tokens, r.has_usage);
  append_json_escaped(out, r.error);
  out += R"(","itl_ms":[)";
  for (std::size_t i = 0; i < r.itl_ms.size(); ++i)
    fmt::format_to(std::back_inserter(out), "{}{:.3f}", i > 0 ? "," : "", r.itl_ms[i]);
  return out + "]}\n";
}

Result<Record> read_record(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  Record r;
  try {
    r.index = json.at("index");
    r.conversation = json.at("conversation");
    r.turn = json.at("turn");
    r.due_s = json.at("due_s");
    r.sent_s = json.at("sent_s");
    r.status = json.at("status");
    r.error = json.at("error");
    r.ttft_ms = json.at("ttft_ms");
    r.e2e_ms = json.at("e2e_ms");
    r.prompt_tokens = json.at("prompt_tokens");
    r.cached_tokens = json.at("cached_tokens");
    r.output_tokens = json.at("output_tokens");
    r.has_usage = json.at("has_usage");
    r.itl_ms = json.at("itl_ms").get<std::vector<float>>();
    const std::string outcome = json.at("outcome");
    for (const auto candidate : kOutcomes) {
      if (to_string(candidate) != outcome) continue;
      r.outcome = candidate;
      return r;
    }
    return error(ErrorCode::kInvalidArgument, fmt::format("'{}' is no outcome", outcome));
  } catch (const nlohmann::json::exception& problem) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("not a line that bench serve has written: {}", problem.what()));
  }
}

}  // namespace pd::load
