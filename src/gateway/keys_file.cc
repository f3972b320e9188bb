#include "gateway/keys_file.h"

#include <expected>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mapped_file.h"

namespace pd::gateway {
namespace {

constexpr std::size_t kKeysFileMax = 64 << 20;

using Mistakes = std::vector<std::string>;

std::expected<protocol::AccessFile, Mistakes> read(const std::string& path) {
  const auto content = read_file(path, kKeysFileMax);
  if (!content)
    return std::unexpected(Mistakes{"[gateway] access_file: " + content.error().message});
  return protocol::parse_access_file(*content, path);
}

}  // namespace

Result<std::unique_ptr<KeysFile>> KeysFile::open(net::EventLoop& loop, std::string path, Use use) {
  std::unique_ptr<KeysFile> keys(new KeysFile(std::move(path), std::move(use)));
  // Watched before it is read: a change in between is seen as one.
  keys->file_ = std::make_unique<WatchedFile>(
      loop, keys->path_, kKeysFileMax,
      [raw = keys.get()](const Result<std::string>&) { raw->changes_.try_push({}); });
  const auto file = read(keys->path_);
  if (!file) {
    std::string all;
    for (const std::string& mistake : file.error()) all += (all.empty() ? "" : "\n") + mistake;
    return error(ErrorCode::kInvalidArgument, all);
  }
  keys->use_(*file);
  keys->thread_ = std::jthread([raw = keys.get()] { raw->run(); });
  return keys;
}

KeysFile::~KeysFile() { changes_.close(); }

void KeysFile::run() {
  while (changes_.pop()) look_again();
}

void KeysFile::look_again() const {
  const auto file = read(path_);
  if (file) return use_(*file);
  for (const std::string& mistake : file.error())
    log::error("{}; the keys stay as they were", mistake);
}

}  // namespace pd::gateway
