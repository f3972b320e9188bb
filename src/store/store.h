// Cluster state: keys to values under one growing revision. EmbeddedStore keeps it in a SQLite
// file; every committed change survives a crash of the process and of the machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pd::store {

struct Entry {
  std::string key;
  std::string value;
  std::uint64_t revision = 0;  // of its last change
  bool operator==(const Entry&) const = default;
};

// One change of a transaction. `expected`: the key's revision must be this (0: the key must not
// exist), or the whole transaction is refused.
struct Change {
  std::string key;
  std::optional<std::string> value;  // nullopt: delete
  std::optional<std::uint64_t> expected;
};

class ClusterStore {
 public:
  virtual ~ClusterStore() = default;
  virtual Result<std::optional<Entry>> get(std::string_view key) const = 0;
  virtual Result<std::vector<Entry>> list(std::string_view prefix) const = 0;  // by key
  // All or nothing. The new revision; kAlreadyExists when an `expected` does not hold (nothing is
  // changed).
  virtual Result<std::uint64_t> commit(const std::vector<Change>& changes) = 0;
  virtual Result<std::uint64_t> revision() const = 0;
};

// One thread at a time; one process per file at a time (a second one is refused with kUnavailable).
// `path`: a file that is made when absent, or ":memory:". Errors name the file: not a database,
// locked by another process, disk full.
Result<std::unique_ptr<ClusterStore>> open_embedded_store(const std::filesystem::path& path);

}  // namespace pd::store
