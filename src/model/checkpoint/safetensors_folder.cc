#include "model/checkpoint/safetensors_folder.h"

#include <fmt/format.h>

#include <set>

#include "model/json_text.h"

namespace pd::model {
namespace {

constexpr std::size_t kIndexBytesMax = 64 << 20;
constexpr std::size_t kShardsMax = 4096;
constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

using WeightMap = std::map<std::string, std::string>;  // tensor -> shard

// A name from the file is only ever a file of this folder: no separator, no "..", nothing hidden.
bool is_plain_shard_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".safetensors";
  return name.size() > kSuffix.size() && name.size() <= 255 && name.ends_with(kSuffix) &&
         name.front() != '.' && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

Result<WeightMap> read_index(const std::filesystem::path& path) {
  const auto text = read_file(path, kIndexBytesMax);
  if (!text) return std::unexpected(text.error());
  const auto json = parse_json(*text, path.string());
  if (!json) return std::unexpected(json.error());
  const auto bad = [&path](std::string_view message) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: weight_map: {}", path.string(), message));
  };
  const auto map = json->is_object() ? json->find("weight_map") : json->end();
  if (!json->is_object() || map == json->end() || !map->is_object() || map->empty()) {
    return bad("expected an object that maps tensors to files");
  }
  WeightMap out;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_plain_shard_name(shard.get_ref<const std::string&>())) {
      return bad(fmt::format("{}: {} is not the plain name of a .safetensors file of this folder",
                             quote(tensor),
                             shard.is_string() ? quote(shard.get_ref<const std::string&>())
                                               : std::string("the value")));
    }
    out.emplace(tensor, shard.get<std::string>());
  }
  return out;
}

}  // namespace

Status SafetensorsFolder::add(const std::filesystem::path& path) {
  auto file = Safetensors::open(path);
  if (!file) return std::unexpected(file.error());
  files_.push_back(std::make_unique<Safetensors>(std::move(*file)));
  const Safetensors& added = *files_.back();
  for (const auto& [name, tensor] : added.tensors()) {
    const auto [at, is_new] = tensors_.emplace(name, Entry{&tensor, &added});
    if (!is_new) {
      return error(ErrorCode::kCorrupt, fmt::format("{}: tensor {}: is also in {}", added.name(),
                                                    quote(name), at->second.file->name()));
    }
  }
  return {};
}

Result<SafetensorsFolder> SafetensorsFolder::open(const std::filesystem::path& folder) {
  SafetensorsFolder out;
  std::error_code ignored;
  if (std::filesystem::exists(folder / kSingle, ignored)) {
    if (const Status ok = out.add(folder / kSingle); !ok) return std::unexpected(ok.error());
    return out;
  }
  if (!std::filesystem::exists(folder / kIndex, ignored)) {
    return error(ErrorCode::kNotFound,
                 fmt::format("{}: holds neither {} nor {}; only safetensors weights are read, so "
                             "convert others (pytorch_model.bin) first",
                             folder.string(), kSingle, kIndex));
  }
  const auto index = read_index(folder / kIndex);
  if (!index) return std::unexpected(index.error());
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : *index) shards.insert(shard);
  const std::string where = (folder / kIndex).string();
  if (shards.size() > kShardsMax) {
    return error(ErrorCode::kTooLarge, fmt::format("{}: weight_map: {} files, more than the limit "
                                                   "of {}",
                                                   where, shards.size(), kShardsMax));
  }
  for (const std::string& shard : shards) {
    if (const Status ok = out.add(folder / shard); !ok) return std::unexpected(ok.error());
  }
  for (const auto& [tensor, shard] : *index) {
    const auto at = out.tensors_.find(tensor);
    if (at == out.tensors_.end() || at->second.file->name() != (folder / shard).string()) {
      return error(ErrorCode::kCorrupt, fmt::format("{}: weight_map: {} is not in {}", where,
                                                    quote(tensor), quote(shard)));
    }
  }
  return out;
}

}  // namespace pd::model
