// A folder under the system's temporary one that only this user can read and that ends with its
// owner: by the destructor, or, when the owner was killed, by the next one that is made.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"

namespace pd::cli {

class PrivateFolder {
 public:
  // PREFIX-XXXXXX under `parent` (empty: the system's folder for temporary files). Removes what
  // killed owners of such names left there. Errors name the path.
  static Result<PrivateFolder> make(std::string_view prefix, std::filesystem::path parent = {});
  PrivateFolder(PrivateFolder&& other) noexcept
      : path_(std::exchange(other.path_, {})), alive_(std::move(other.alive_)) {}
  PrivateFolder& operator=(PrivateFolder&&) = delete;
  ~PrivateFolder();

  const std::filesystem::path& path() const { return path_; }
  // It stays, now and later: somebody will want to read what is in it.
  void keep();

 private:
  PrivateFolder(std::filesystem::path path, UniqueFd alive)
      : path_(std::move(path)), alive_(std::move(alive)) {}
  std::filesystem::path path_;  // empty: kept, or moved from
  UniqueFd alive_;              // locked file inside: says to others that the owner lives
};

// The system's folder for temporary files; "/tmp" when TMPDIR names none.
std::filesystem::path temporary_folder();

}  // namespace pd::cli
