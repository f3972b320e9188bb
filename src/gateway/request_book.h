// One entry for each API request: what it was, what became of it, where its time went. Those that
// are being served can be looked up; those that have ended go to the access log. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "gateway/arrival.h"
#include "policy/request_record.h"
#include "protocol/api_error.h"

namespace pd::gateway {

struct RequestEntry {
  std::string id;         // the gateway's own, as the client has it
  std::string client_id;  // the client's own; empty: none
  std::string trace_id;   // W3C; empty: none
  std::string endpoint;   // "/v1/chat/completions"
  std::string peer;
  Caller caller;
  std::int64_t unix_ms = 0;  // when it was received
  bool preparing = false;    // its body is being read, and no more is known of it
  bool stream = false;
  int choices = 1;
  std::int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  // Received to prepared; then, of the choice that ended last, or for which the request failed, its
  // phases; the rest of `total` is the answer being put together.
  Duration prepare{};
  policy::RequestRecord record;
  std::optional<Duration> first_token;
  Duration total{};
  // How it ended; 0 while it is being served. 499: the client left.
  int status = 0;
  std::string error_code;  // of an error object, also of one inside a stream
};

// The name of a request's phase in stages_ms, in metrics.
std::string_view stage_name(policy::RequestPhase phase);

// What is known of it as it comes in.
void describe(const Arrival& arrival, RequestEntry& out);

// One line; times in milliseconds.
nlohmann::ordered_json to_json(const RequestEntry& entry);

// A request that is being served.
class OpenRequest {
 public:
  virtual ~OpenRequest() = default;
  virtual RequestEntry entry() const = 0;
  virtual const std::string& client_id() const = 0;
  virtual void cancel() = 0;  // by an operator: its client gets an error that says so
};

// The one of `found`, of all books, that `name` stands for: the gateway's own id comes before any
// that a client chose. 404: none; 409 with the own ids: several.
protocol::ApiResult<RequestEntry> meant_by(const std::string& name,
                                           const std::vector<RequestEntry>& found);

class RequestBook {
 public:
  using OnEnd = std::function<void(const RequestEntry&)>;
  explicit RequestBook(OnEnd on_end) : on_end_(std::move(on_end)) {}

  void enter(const std::string& id, std::shared_ptr<OpenRequest> request);
  // It has ended.
  void leave(const RequestEntry& entry);

  // By its own id; null: none is open.
  std::shared_ptr<OpenRequest> find(const std::string& id) const;
  // Those that `name` may stand for: the one whose own id it is, or all to which clients gave it,
  // in the order of their own ids.
  std::vector<std::shared_ptr<OpenRequest>> named(const std::string& name) const;
  std::vector<std::shared_ptr<OpenRequest>> all() const;

 private:
  OnEnd on_end_;
  std::map<std::string, std::shared_ptr<OpenRequest>> open_;
};

}  // namespace pd::gateway
