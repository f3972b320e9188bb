// One safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes. After
// open() or parse() every tensor lies inside the file, has the bytes that its type and shape need,
// and the tensors cover the data section without gap or overlap, as the format demands.
// Source: github.com/huggingface/safetensors, README "Format".
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/tensor.h"

namespace pd::model {

class Safetensors {
 public:
  struct Tensor {
    std::string stored_type;     // as the file calls it: "BF16", "I64", ...
    std::optional<DType> dtype;  // nullopt: a type that no weight can have
    std::vector<std::int64_t> shape;
    std::span<const std::byte> data;  // any alignment
  };

  // Errors: kNotFound, kUnavailable (the file), kCorrupt, kTooLarge (a header over 100 MB).
  static Result<Safetensors> open(const std::filesystem::path& path);
  // Parses `bytes`, which must outlive the result; `name` stands for the file in messages.
  static Result<Safetensors> parse(std::span<const std::byte> bytes, std::string name);

  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const std::string& name() const { return name_; }

 private:
  Safetensors() = default;
  std::string name_;
  MappedFile file_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace pd::model
