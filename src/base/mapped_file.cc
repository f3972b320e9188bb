#include "base/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/unique_fd.h"

namespace pd {
namespace {

struct OpenFile {
  UniqueFd fd;
  std::size_t size = 0;
};

Result<OpenFile> open_regular(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    const int reason = errno;
    return error(reason == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
                 fmt::format("{}: cannot open: {}", path.string(), std::strerror(reason)));
  }
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: cannot stat: {}", path.string(), std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: not a regular file", path.string()));
  }
  return OpenFile{std::move(fd), static_cast<std::size_t>(info.st_size)};
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  auto file = open_regular(path);
  if (!file) return std::unexpected(file.error());
  MappedFile out;
  out.path_ = path;
  if (file->size > 0) {
    void* data = ::mmap(nullptr, file->size, PROT_READ, MAP_SHARED, file->fd.get(), 0);
    if (data == MAP_FAILED) {
      return error(ErrorCode::kUnavailable,
                   fmt::format("{}: cannot map: {}", path.string(), std::strerror(errno)));
    }
    out.data_ = data;
    out.size_ = file->size;
  }
  return out;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
  auto file = open_regular(path);
  if (!file) return std::unexpected(file.error());
  if (file->size > limit) {
    return error(ErrorCode::kTooLarge, fmt::format("{}: {} bytes, more than the limit of {}",
                                                   path.string(), file->size, limit));
  }
  std::string out(file->size, '\0');
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(file->fd.get(), out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return error(ErrorCode::kUnavailable,
                   fmt::format("{}: cannot read: {}", path.string(), std::strerror(errno)));
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

}  // namespace pd
