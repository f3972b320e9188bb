#include "cli/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>

#include "base/unique_fd.h"
#include "cli/private_folder.h"

namespace pd::cli {

namespace fs = std::filesystem;

namespace {
constexpr std::string_view kShippedModel = "stories260K";
}

fs::path program_path() {
  std::error_code code;
  const fs::path path = fs::read_symlink("/proc/self/exe", code);
  return code ? fs::path("pdserve") : path;
}

Result<fs::path> find_model(std::string_view model) {
  if (model.empty()) {
    return error(ErrorCode::kInvalidArgument,
                 "no model given: pass --model PATH or set [model] path");
  }
  std::error_code code;
  if (fs::exists(model, code)) return fs::absolute(model);
  // Names of shipped models have no slash: a mistyped path must not silently become another model.
  if (model.find('/') == std::string_view::npos) {
    const fs::path program = program_path().parent_path();
    std::string looked;
    for (const fs::path& root :
         {program / "../../assets/models", program / "../share/pdserve/models"}) {
      if (fs::exists(root / model, code)) return fs::canonical(root / model);
      looked += (looked.empty() ? "" : " and ") + root.lexically_normal().string();
    }
    if (model == kShippedModel) {
      return error(ErrorCode::kNotFound,
                   fmt::format("{}: not in {}, where the program looks for it; leave the program "
                               "where it was built, or give the model's folder",
                               model, looked));
    }
  }
  return error(ErrorCode::kNotFound,
               fmt::format("{}: no such file, folder or shipped model; give a Hugging Face folder, "
                           "a .gguf file, or {}",
                           model, kShippedModel));
}

fs::path default_weights_directory() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && cache[0] == '/')
    return fs::path(cache) / "pdserve";
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/')
    return fs::path(home) / ".cache/pdserve";
  return temporary_folder() / fmt::format("pdserve-weights-{}", ::getuid());
}

Status write_private_file(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".new";
  UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  const auto failed = [&]() -> Status {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: cannot write: {}", path.string(), std::strerror(errno)));
  };
  if (!file) return failed();
  std::string_view rest = content;
  while (!rest.empty()) {
    const ssize_t n = ::write(file.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed();
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed();
  return {};
}

std::uint64_t random_bits() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace pd::cli
