// What an instance does in its group.
#pragma once

#include <cstdint>

namespace pd {

enum class Role : std::uint8_t {
  kNone = 0,     // stateless standby
  kPrefill = 1,  // P
  kDecode = 2,   // D
  kBoth = 3,     // aggregated: serves its requests whole
};

constexpr bool prefills(Role role) { return role == Role::kPrefill || role == Role::kBoth; }
constexpr bool decodes(Role role) { return role == Role::kDecode || role == Role::kBoth; }

}  // namespace pd
