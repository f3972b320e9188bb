#include "gateway/request_book.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace pd::gateway {

namespace {

// Microseconds are what a reader can use.
std::int64_t microseconds(Duration time) {
  return std::chrono::round<std::chrono::microseconds>(time).count();
}
double milliseconds(std::int64_t us) { return static_cast<double>(us) / 1e3; }
double milliseconds(Duration time) { return milliseconds(microseconds(time)); }

// By RequestPhase but kDone.
constexpr std::string_view kStages[] = {"wait_prefill", "prefill", "wait_decode", "join", "decode"};

constexpr std::size_t kNamedMax = 20;  // in one message: a client may give all its requests one id

std::string iso_time(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds), unix_ms % 1000);
}

}  // namespace

std::string_view stage_name(policy::RequestPhase phase) {
  return kStages[static_cast<std::size_t>(phase)];
}

void describe(const Arrival& arrival, RequestEntry& out) {
  out.id = arrival.id;
  out.client_id = arrival.client_id;
  out.trace_id = arrival.trace_id;
  out.endpoint = arrival.endpoint;
  out.peer = arrival.peer;
  out.caller = arrival.caller;
  out.unix_ms = arrival.unix_ms;
}

nlohmann::ordered_json to_json(const RequestEntry& entry) {
  const policy::RequestRecord& record = entry.record;
  nlohmann::ordered_json out{{"time", iso_time(entry.unix_ms)}, {"id", entry.id}};
  if (!entry.client_id.empty()) out["client_id"] = entry.client_id;
  if (!entry.trace_id.empty()) out["trace_id"] = entry.trace_id;
  if (!entry.caller.tenant_name.empty()) {
    out["tenant"] = entry.caller.tenant_name;
    out["key"] = entry.caller.key;
    if (!entry.caller.scenario.empty()) out["scenario"] = entry.caller.scenario;
  }
  out["peer"] = entry.peer;
  out["endpoint"] = entry.endpoint;
  out["status"] = entry.status;
  if (!entry.error_code.empty()) out["error"] = entry.error_code;
  out["stream"] = entry.stream;
  out["choices"] = entry.choices;
  out["prompt_tokens"] = entry.prompt_tokens;
  out["cached_tokens"] = entry.cached_tokens;
  out["output_tokens"] = entry.output_tokens;
  if (entry.first_token) out["ttft_ms"] = milliseconds(*entry.first_token);
  // The stages are of clocks read apart: the whole is no less than they are, and their sum as
  // written.
  std::int64_t served = microseconds(entry.prepare);
  nlohmann::ordered_json stages{{"prepare", milliseconds(entry.prepare)}};
  for (std::size_t i = 0; i < record.in_phase.size(); ++i) {
    stages[std::string(kStages[i])] = milliseconds(record.in_phase[i]);
    served += microseconds(record.in_phase[i]);
  }
  const std::int64_t total = std::max(microseconds(entry.total), served);
  stages["answer"] = milliseconds(total - served);
  out["total_ms"] = milliseconds(total);
  // Where it is, or where it ended: a complete answer has them all behind it.
  if (entry.status != 200 || !entry.error_code.empty())
    out["stage"] = entry.preparing ? "prepare" : stage_name(record.phase);
  out["stages_ms"] = std::move(stages);
  out["rejections"] = record.rejections;
  out["hedges"] = record.hedges;
  out["restarts"] = record.restarts;
  out["evictions"] = record.evictions;
  out["crashes"] = record.crashes;
  if (record.prefill != WorkerId()) out["prefill"] = record.prefill.value();
  if (record.decode != WorkerId()) out["decode"] = record.decode.value();
  return out;
}

protocol::ApiResult<RequestEntry> meant_by(const std::string& name,
                                           const std::vector<RequestEntry>& found) {
  const auto own = std::ranges::find(found, name, &RequestEntry::id);
  if (own != found.end()) return *own;
  if (found.empty()) {
    return std::unexpected(protocol::ApiError{
        404, "invalid_request_error",
        fmt::format("no request {} is being served here: it has ended, or another gateway has it",
                    protocol::shortened(name)),
        "", "unknown_request"});
  }
  if (found.size() == 1) return found.front();
  std::string ids;
  for (std::size_t i = 0; i < std::min(found.size(), kNamedMax); ++i)
    ids += fmt::format("{}{}", i == 0 ? "" : ", ", found[i].id);
  if (found.size() > kNamedMax) ids += fmt::format(" and {} more", found.size() - kNamedMax);
  return std::unexpected(protocol::ApiError{
      409, "invalid_request_error",
      fmt::format("{} requests have {} from their clients; say which by its own id: {}",
                  found.size(), name, ids),
      "", "ambiguous_request"});
}

void RequestBook::enter(const std::string& id, std::shared_ptr<OpenRequest> request) {
  open_.insert_or_assign(id, std::move(request));
}

void RequestBook::leave(const RequestEntry& entry) {
  on_end_(entry);
  // The request may be kept by nothing else.
  const auto it = open_.find(entry.id);
  if (it == open_.end()) return;
  const auto keep = std::move(it->second);
  open_.erase(it);
}

std::shared_ptr<OpenRequest> RequestBook::find(const std::string& id) const {
  const auto it = open_.find(id);
  return it == open_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<OpenRequest>> RequestBook::named(const std::string& name) const {
  std::vector<std::shared_ptr<OpenRequest>> out;
  if (auto own = find(name)) return {std::move(own)};
  if (name.empty()) return out;
  for (const auto& [id, request] : open_) {
    if (request->client_id() == name) out.push_back(request);
  }
  return out;
}

std::vector<std::shared_ptr<OpenRequest>> RequestBook::all() const {
  std::vector<std::shared_ptr<OpenRequest>> out;
  for (const auto& [id, request] : open_) out.push_back(request);
  return out;
}

}  // namespace pd::gateway
