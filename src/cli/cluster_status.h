// What a controller says of its group (GET /cluster/v1/status), as a value. The other side may be
// anything that listens at the address: whatever it sends becomes a status or an error.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pd::cli {

struct InstanceStatus {
  int id = 0;
  std::string role;
  std::string state;
  std::string address;  // empty: it has not reported one
  std::string trouble;  // as the controller sees it
  double loaded = 0;    // share of its weights
  std::string fatal;    // why it can never serve; empty: it can
  bool serves() const { return state == "serving"; }
};

struct ClusterStatus {
  bool complete = false;
  std::string last_trouble;  // why the group cannot be formed
  std::vector<InstanceStatus> instances;
};

Result<ClusterStatus> parse_cluster_status(std::string_view json);

}  // namespace pd::cli
