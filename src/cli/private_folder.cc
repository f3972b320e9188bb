#include "cli/private_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace pd::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kAlive = "owner.lock";
constexpr std::size_t kRandomLetters = 6;  // mkdtemp's

// A folder is swept only if it has the file (it was finished, and nobody asked for it to be kept)
// and nobody holds its lock (the owner is dead).
void sweep(const fs::path& parent, std::string_view prefix) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() != prefix.size() + 1 + kRandomLetters || !name.starts_with(prefix)) continue;
    struct stat stat{};
    if (::lstat(entry.path().c_str(), &stat) != 0 || !S_ISDIR(stat.st_mode) ||
        stat.st_uid != ::getuid())
      continue;
    const UniqueFd file(::open((entry.path() / kAlive).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) fs::remove_all(entry.path(), ignored);
  }
}

std::unexpected<Error> failed(const fs::path& path) {
  return error(ErrorCode::kUnavailable,
               fmt::format("{}: cannot make a folder: {}", path.string(), std::strerror(errno)));
}

}  // namespace

fs::path temporary_folder() {
  std::error_code code;
  const fs::path folder = fs::temp_directory_path(code);
  return code ? fs::path("/tmp") : folder;
}

Result<PrivateFolder> PrivateFolder::make(std::string_view prefix, fs::path parent) {
  if (parent.empty()) parent = temporary_folder();
  sweep(parent, prefix);
  std::string pattern = (parent / fmt::format("{}-XXXXXX", prefix)).string();
  if (::mkdtemp(pattern.data()) == nullptr) return failed(pattern);
  // Locked before it has its name: a sweep in between finds nothing to lock.
  const fs::path unnamed = fs::path(pattern) / (std::string(kAlive) + ".new");
  PrivateFolder folder(
      pattern, UniqueFd(::open(unnamed.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)));
  if (!folder.alive_ || ::flock(folder.alive_.get(), LOCK_EX) != 0 ||
      ::rename(unnamed.c_str(), (folder.path_ / kAlive).c_str()) != 0)
    return failed(folder.path_);
  return folder;
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void PrivateFolder::keep() {
  ::unlink((path_ / kAlive).c_str());
  path_.clear();
}

}  // namespace pd::cli
