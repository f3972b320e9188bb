// The weights of a Hugging Face folder: model.safetensors, or model.safetensors.index.json and the
// shards that it lists.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint/safetensors.h"

namespace pd::model {

class SafetensorsFolder {
 public:
  struct Entry {
    const Safetensors::Tensor* tensor = nullptr;
    const Safetensors* file = nullptr;
  };

  // A shard's name must be a plain file name of this folder; every tensor of the index must be in
  // the shard that the index says, and none in two shards. Errors: those of Safetensors::open(),
  // kNotFound (no weights or a shard is missing), kCorrupt (index).
  static Result<SafetensorsFolder> open(const std::filesystem::path& folder);

  const std::map<std::string_view, Entry>& tensors() const { return tensors_; }

 private:
  SafetensorsFolder() = default;
  Status add(const std::filesystem::path& file);
  std::vector<std::unique_ptr<Safetensors>> files_;
  std::map<std::string_view, Entry> tensors_;  // keys point into files_
};

}  // namespace pd::model
