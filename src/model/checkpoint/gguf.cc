#include "model/checkpoint/gguf.h"

#include "model/checkpoint/gguf_parser.h"

namespace pd::model {
namespace {

template <typename T>
const T* get(const Gguf::Value* value) {
  return value == nullptr ? nullptr : std::get_if<T>(value);
}

template <typename T>
std::optional<T> copy(const T* value) {
  return value == nullptr ? std::nullopt : std::optional<T>(*value);
}

}  // namespace

Result<std::unique_ptr<Gguf>> Gguf::open(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return std::unexpected(file.error());
  auto out = GgufParser(file->bytes(), path.string()).parse();
  if (out) (*out)->file_ = std::move(*file);
  return out;
}

Result<std::unique_ptr<Gguf>> Gguf::parse(std::span<const std::byte> bytes, std::string name) {
  return GgufParser(bytes, std::move(name)).parse();
}

const Gguf::Value* Gguf::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

std::optional<std::int64_t> Gguf::integer(std::string_view key) const {
  return copy(get<std::int64_t>(find(key)));
}

std::optional<double> Gguf::number(std::string_view key) const {
  if (const auto value = integer(key)) return static_cast<double>(*value);
  return copy(get<double>(find(key)));
}

std::optional<bool> Gguf::boolean(std::string_view key) const { return copy(get<bool>(find(key))); }

const std::string* Gguf::string(std::string_view key) const { return get<std::string>(find(key)); }

const std::vector<std::string>* Gguf::strings(std::string_view key) const {
  return get<std::vector<std::string>>(find(key));
}

const std::vector<std::int64_t>* Gguf::integers(std::string_view key) const {
  return get<std::vector<std::int64_t>>(find(key));
}

const std::vector<double>* Gguf::numbers(std::string_view key) const {
  return get<std::vector<double>>(find(key));
}

}  // namespace pd::model
