// The file that says who may use the API (`[gateway] access_file`): keys, and the tenants that they
// belong to. TOML:
//   [[tenant]]
//   name = "search"             # what logs, metrics and keys call it
//   weight = 2.0                # share of the group when there is not enough for all
//   scenario = "chat"           # label of its requests in records
//   requests_per_minute = 600   # 0: no limit, as for the two below
//   tokens_per_minute = 100000  # prompts and outputs
//   concurrency = 50            # requests at once
//   [[key]]
//   name = "search-backend"     # what logs call it; the key itself is never logged
//   tenant = "search"
//   priority = 1                # its requests count as if they had come half a second earlier
//   sha256 = "..."              # of the key: printf '%s' "$KEY" | sha256sum | cut -d' ' -f1
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace pd::protocol {

struct TenantEntry {
  std::string name;
  double weight = 1;
  std::string scenario;
  std::int64_t requests_per_minute = 0;
  std::int64_t tokens_per_minute = 0;
  int concurrency = 0;
  bool operator==(const TenantEntry&) const = default;
};

struct KeyEntry {
  std::string name;
  std::string tenant;
  std::string sha256;  // 64 hex digits in lower case
  int priority = 0;    // -10 to 10, among the tenant's own
  bool operator==(const KeyEntry&) const = default;
};

struct AccessFile {
  std::vector<TenantEntry> tenants;
  std::vector<KeyEntry> keys;
};

// All mistakes at once, one line each with file, line, entry and the fix. A file without keys is a
// mistake: it would shut everybody out.
std::expected<AccessFile, std::vector<std::string>> parse_access_file(std::string_view toml,
                                                                      std::string_view name);

}  // namespace pd::protocol
