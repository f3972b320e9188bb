#include "engine/weights_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <system_error>

#include "base/digest.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace pd::engine {
namespace {

namespace fs = std::filesystem;

double mebibytes(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::unexpected<Error> system_error(const fs::path& path, std::string_view what) {
  const int reason = errno;
  return error(ErrorCode::kUnavailable,
               fmt::format("{}: cannot {}: {}", path.string(), what, std::strerror(reason)));
}

std::unexpected<Error> disk_full(const fs::path& directory, std::int64_t bytes) {
  std::error_code ignored;
  const fs::space_info space = fs::space(directory, ignored);
  return error(ErrorCode::kTooLarge,
               fmt::format("{}: packed weights need {:.0f} MiB ({} bytes) of disk, {:.0f} MiB are "
                           "free; free some or choose another directory",
                           directory.string(), mebibytes(bytes), bytes,
                           ignored ? 0.0 : mebibytes(static_cast<std::int64_t>(space.available))));
}

// Disk, quota or the limit on a file's size.
bool is_full(int reason) { return reason == ENOSPC || reason == EDQUOT || reason == EFBIG; }

Status write_all(int fd, const fs::path& path, std::span<const std::byte> bytes,
                 std::int64_t total) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && is_full(errno)) return disk_full(path.parent_path(), total);
    if (n < 0) return system_error(path, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

// Exclusive among processes until destroyed or the process ends. The file stays: removing it would
// let two holders lock two different files of one name.
Result<UniqueFd> lock(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) return system_error(path, "create");
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return system_error(path, "lock");
  }
  return fd;
}

// Flushes a directory, so that a rename inside it survives a power cut.
Status flush_directory(const fs::path& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return system_error(directory, "flush");
  return {};
}

// Behind the image: the digest of all before it.
constexpr std::size_t kTrailerBytes = sizeof(std::uint64_t);

// The mapped image if it is exactly the expected one, to the last byte; nullopt if there is none,
// another, or one that the disk or somebody has changed: it is packed anew then. Reads all of it,
// which serving will do anyway.
std::optional<MappedFile> map_image(const fs::path& path, const ImageHeader& expected) {
  auto file = MappedFile::open(path);
  if (!file) return std::nullopt;
  ImageHeader header;
  const auto image_bytes = static_cast<std::size_t>(expected.image_bytes);
  if (file->bytes().size() != image_bytes + kTrailerBytes) return std::nullopt;
  std::memcpy(&header, file->bytes().data(), sizeof(header));
  if (header != expected) return std::nullopt;
  std::uint64_t digest = 0;
  std::memcpy(&digest, file->bytes().data() + image_bytes, sizeof(digest));
  if (digest64(file->bytes().first(image_bytes)) != digest) {
    log::warn("{}: it has changed since it was written; it is packed anew", path.string());
    return std::nullopt;
  }
  return std::move(*file);
}

// Weights that somebody else could have put there are not served.
Status check_owner(const fs::path& directory) {
  struct stat stat = {};
  if (::stat(directory.c_str(), &stat) != 0) return system_error(directory, "look at");
  const bool foreign = stat.st_uid != ::geteuid() && stat.st_uid != 0;
  if (!foreign && (stat.st_mode & S_IWOTH) == 0) return {};
  return error(ErrorCode::kUnavailable,
               fmt::format("{}: {}; choose another [cluster] weights_directory, or make it yours "
                           "alone",
                           directory.string(),
                           foreign ? "it belongs to another user" : "everybody may write into it"));
}

struct RemoveOnFailure {
  fs::path path;
  bool keep = false;
  ~RemoveOnFailure() {
    if (!keep) ::unlink(path.c_str());
  }
};

// Every use of an image sets its time of modification; one that nobody used for so long goes when
// another is made, as do those of other versions of this program's format.
constexpr std::chrono::days kUnusedMax{30};

void mark_used(const fs::path& image) { (void)::utimensat(AT_FDCWD, image.c_str(), nullptr, 0); }

void remove_unused(const fs::path& directory) {
  const std::string current = fmt::format("-v{}.weights", kPackVersion);
  const auto oldest = fs::file_time_type::clock::now() - kUnusedMax;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    std::error_code unknown;
    const auto used = entry.last_write_time(unknown);
    if (unknown || !name.ends_with(".weights") || (name.ends_with(current) && used >= oldest))
      continue;
    // Who maps it keeps its pages. The lock's file stays: another process may wait for it.
    fs::remove(entry.path(), ignored);
  }
}

Status pack(const model::Checkpoint& checkpoint, const ImagePlan& plan, const fs::path& path,
            const std::function<void(std::int64_t)>& on_bytes) {
  // One name for all attempts: what a killed process left is overwritten, never collected.
  const fs::path temporary = path.string() + ".tmp";
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return system_error(temporary, "create");
  RemoveOnFailure cleanup{temporary};
  // Reserves the space at once: a full disk is found now, not after a minute of work. File systems
  // without the call report it, and writing finds out.
  if (::fallocate(fd.get(), 0, 0, plan.bytes) != 0 && is_full(errno))
    return disk_full(path.parent_path(), plan.bytes);
  std::int64_t written = 0;
  Digest64 digest;
  Status done = write_image(checkpoint, plan, [&](std::span<const std::byte> piece) -> Status {
    if (Status wrote = write_all(fd.get(), temporary, piece, plan.bytes); !wrote) return wrote;
    digest.update(piece);
    written += static_cast<std::int64_t>(piece.size());
    on_bytes(written);
    return {};
  });
  if (!done) return done;
  const std::uint64_t trailer = digest.value();
  done = write_all(fd.get(), temporary, std::as_bytes(std::span(&trailer, 1)), plan.bytes);
  if (!done) return done;
  if (::fsync(fd.get()) != 0) return system_error(temporary, "flush");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error(path, "rename to");
  cleanup.keep = true;
  return flush_directory(path.parent_path());
}

}  // namespace

Status check_memory(std::int64_t bytes) {
  const std::optional<Bytes> available = available_memory();
  if (!available || available->value() >= bytes) return {};
  return error(
      ErrorCode::kTooLarge,
      fmt::format("weights need {:.0f} MiB of memory, {:.0f} MiB are available; stop other "
                  "programs or choose a smaller model",
                  mebibytes(bytes), mebibytes(available->value())));
}

Result<MappedFile> open_packed_image(const model::Checkpoint& checkpoint, const ImagePlan& plan,
                                     const fs::path& directory,
                                     const std::function<void(std::int64_t)>& on_bytes) {
  std::error_code failed;
  // Only its owner writes into it, whatever the umask says.
  if (fs::create_directories(directory, failed))
    fs::permissions(directory, fs::perms::owner_all, failed);
  if (failed) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: cannot create the directory for {:.0f} MiB of packed weights: {}",
                             directory.string(), mebibytes(plan.bytes), failed.message()));
  }
  if (Status ours = check_owner(directory); !ours) return std::unexpected(ours.error());
  const std::uint64_t digest = checkpoint.weights_digest();
  const ImageHeader expected = plan.header(digest);
  const fs::path path =
      directory / fmt::format("{}-{}-v{}.weights", to_hex(digest),
                              plan.type == WeightType::kF32 ? "f32" : "bf16", kPackVersion);
  // Finished images are never changed, so the usual case needs no lock.
  if (auto image = map_image(path, expected)) {
    mark_used(path);
    return std::move(*image);
  }
  Result<UniqueFd> held = lock(path.string() + ".lock");
  if (!held) return std::unexpected(held.error());
  if (auto image = map_image(path, expected)) return std::move(*image);
  if (Status enough = check_memory(plan.bytes); !enough) return std::unexpected(enough.error());
  if (Status packed = pack(checkpoint, plan, path, on_bytes); !packed)
    return std::unexpected(packed.error());
  remove_unused(directory);
  if (auto image = map_image(path, expected)) return std::move(*image);
  return error(
      ErrorCode::kCorrupt,
      fmt::format("{}: differs from what was just written; check the disk", path.string()));
}

}  // namespace pd::engine
