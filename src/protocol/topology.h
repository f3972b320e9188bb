// The group as gateways and workers see it: who is there, where, in which role. Published by the
// controller under a revision that only grows; JSON, because people look at it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/role.h"
#include "base/units.h"

namespace pd::protocol {

std::string_view to_string(Role role);
Result<Role> parse_role(std::string_view text);

struct Instance {
  WorkerId id;          // given by the controller, never reused
  BootId boot;          // an instance is (address, boot id)
  std::string address;  // "host:port" of its P/D verbs
  Role role = Role::kNone;
  int slots = 0;         // prompts a P holds at once
  int batch_places = 0;  // requests in a D's step
  bool admits = true;    // false: draining
  Tokens kv_max{0};      // that a D's whole memory holds; 0: not said
  bool operator==(const Instance&) const = default;
};

struct Topology {
  std::uint64_t revision = 0;
  std::uint64_t fence = 0;          // grows with each controller that takes over
  std::uint64_t layout_hash = 0;    // of the group's KV; 0 until the first instance reported it
  std::vector<Instance> instances;  // announced ones only
  // That share the cluster; 0: not known yet. Not part of what the revision numbers.
  int gateways = 0;
  bool operator==(const Topology&) const = default;
};

// The most tokens of KV that any D's memory holds. 0: not known, of one of them at least.
Tokens kv_max(const Topology& topology);

std::string to_json(const Topology& topology);
Result<Topology> parse_topology(std::string_view json);

}  // namespace pd::protocol
