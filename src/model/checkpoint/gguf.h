// GGUF container (versions 2 and 3): typed metadata and tensor directory of one mapped file. After
// open() or parse() every tensor lies inside the file, is aligned, overlaps no other and has the
// bytes that its type and shape need; keys and names are unique. Metadata is bounded to 1 GiB and
// 16 Mi array elements.
// Source: github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/tensor.h"

namespace pd::model {

class Gguf {
 public:
  // A metadata value. Integers of any width become int64 (uint64 over its range is refused),
  // floats become double; arrays hold one element type, and those of booleans become int64.
  using Value = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                             std::vector<double>, std::vector<std::string>>;
  struct Tensor {
    TensorInfo info;  // shape in row-major order (GGUF stores it reversed)
    std::span<const std::byte> data;
  };

  // Errors: kNotFound, kUnavailable (the file), kCorrupt (truncated or lying), kUnsupported (byte
  // order, version, a tensor type that cannot be widened).
  static Result<std::unique_ptr<Gguf>> open(const std::filesystem::path& path);
  // Parses `bytes`, which must outlive the result; `name` stands for the file in messages.
  static Result<std::unique_ptr<Gguf>> parse(std::span<const std::byte> bytes, std::string name);

  const Value* find(std::string_view key) const;  // nullptr: absent
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;  // floats, and integers widened
  std::optional<bool> boolean(std::string_view key) const;
  const std::string* string(std::string_view key) const;
  const std::vector<std::string>* strings(std::string_view key) const;
  const std::vector<std::int64_t>* integers(std::string_view key) const;
  const std::vector<double>* numbers(std::string_view key) const;

  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const std::string& name() const { return name_; }

 private:
  friend class GgufParser;
  Gguf() = default;
  std::string name_;
  std::optional<MappedFile> file_;
  std::map<std::string, Value, std::less<>> values_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace pd::model
