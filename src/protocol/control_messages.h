// What controller and workers say to each other about roles and state: JSON over HTTP, because
// operators read it.
//   worker -> controller  POST /cluster/v1/register   Registration
//   controller -> worker  GET  /control/v1/status     -> WorkerStatus
//   controller -> worker  POST /control/v1/assign     Assignment
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/role.h"
#include "base/units.h"

namespace pd::protocol {

struct Registration {
  WorkerId id;  // given by the controller on the command line
  BootId boot;
  std::string address;    // "host:port" of its verbs
  std::string transport;  // its KV transport's address, opaque bytes
  bool operator==(const Registration&) const = default;
};

struct PeerInfo {
  BootId boot;
  std::string transport;
  bool operator==(const PeerInfo&) const = default;
};

struct Assignment {
  Role role = Role::kNone;
  std::uint64_t fence =
      0;  // of the controller; a worker refuses one that is older than it has seen
  std::vector<PeerInfo> peers;  // to connect to and verify before it calls itself loaded
  bool operator==(const Assignment&) const = default;
};

struct WorkerStatus {
  WorkerId id;
  BootId boot;
  Role role = Role::kNone;
  double load_fraction = 0.0;  // of the weights
  bool loaded = false;         // weights are in and every peer answered
  bool ready = false;          // can serve now
  bool draining = false;
  std::string trouble;  // why it is not ready; empty: nothing wrong
  bool fatal = false;   // it will not get better
  std::uint64_t layout_hash = 0;
  int slots = 0;
  int batch_places = 0;
  int slots_used = 0;
  int requests = 0;  // in the batch or about to join
  std::int64_t blocks_total = 0;
  std::int64_t blocks_used = 0;
  std::int64_t block_tokens = 0;  // of one
  std::uint64_t steps = 0;        // engine iterations: progress
  bool operator==(const WorkerStatus&) const = default;
};

std::string to_json(const Registration& message);
std::string to_json(const Assignment& message);
std::string to_json(const WorkerStatus& message);
Result<Registration> parse_registration(std::string_view json);
Result<Assignment> parse_assignment(std::string_view json);
Result<WorkerStatus> parse_worker_status(std::string_view json);

}  // namespace pd::protocol
