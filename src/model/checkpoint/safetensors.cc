#include "model/checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "model/checkpoint/byte_cursor.h"
#include "model/json_text.h"

namespace pd::model {
namespace {

constexpr std::uint64_t kHeaderMax = 100'000'000;  // the reference implementation's limit
constexpr std::size_t kShapeLengthMax = 16;

struct StoredType {
  std::string_view name;
  std::uint64_t bits;
  std::optional<DType> dtype;
};

constexpr std::array<StoredType, 20> kTypes = {{
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"F64", 64, {}},
    {"I64", 64, {}},
    {"U64", 64, {}},
    {"I32", 32, {}},
    {"U32", 32, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I8", 8, {}},
    {"U8", 8, {}},
    {"BOOL", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
    {"C64", 64, {}},
}};

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const std::string* name = nullptr;
};

std::optional<std::uint64_t> as_unsigned(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<std::uint64_t>();
}

// Values of a shape (1 for a scalar). nullopt: not a list of numbers, or over 2^56 values.
std::optional<std::uint64_t> read_shape(const nlohmann::json& json,
                                        std::vector<std::int64_t>& out) {
  constexpr std::uint64_t kValuesMax = std::uint64_t{1} << 56;
  if (!json.is_array() || json.size() > kShapeLengthMax) return std::nullopt;
  std::uint64_t values = 1;
  for (const nlohmann::json& item : json) {
    const auto dim = as_unsigned(item);
    if (!dim || *dim > kValuesMax) return std::nullopt;
    if (*dim != 0 && values > kValuesMax / *dim) return std::nullopt;
    values *= *dim;
    out.push_back(static_cast<std::int64_t>(*dim));
  }
  return values;
}

// Errors lack file and tensor: the caller puts them in front.
Result<Safetensors::Tensor> read_entry(const nlohmann::json& json, std::span<const std::byte> data,
                                       Extent& extent) {
  const auto bad = [](std::string message) {
    return error(ErrorCode::kCorrupt, std::move(message));
  };
  if (!json.is_object()) return bad("expected an object with dtype, shape and data_offsets");
  const auto dtype = json.find("dtype");
  if (dtype == json.end() || !dtype->is_string()) return bad("dtype: expected a string");
  const auto& type_name = dtype->get_ref<const std::string&>();
  const auto* type = std::ranges::find(kTypes, type_name, &StoredType::name);
  if (type == kTypes.end()) return bad(fmt::format("dtype: {} is unknown", quote(type_name)));

  Safetensors::Tensor out{type_name, type->dtype, {}, {}};
  const auto shape = json.find("shape");
  const auto values = shape == json.end() ? std::nullopt : read_shape(*shape, out.shape);
  if (!values) {
    return bad(fmt::format("shape: expected a list of at most {} sizes with a product below 2^56",
                           kShapeLengthMax));
  }
  const auto offsets = json.find("data_offsets");
  const bool is_pair = offsets != json.end() && offsets->is_array() && offsets->size() == 2;
  const auto begin = is_pair ? as_unsigned((*offsets)[0]) : std::nullopt;
  const auto end = is_pair ? as_unsigned((*offsets)[1]) : std::nullopt;
  if (!begin || !end) return bad("data_offsets: expected [begin, end]");
  if (*begin > *end || *end > data.size()) {
    return bad(
        fmt::format("data_offsets: [{}, {}] is outside the file's {} bytes of tensor data "
                    "(truncated file?)",
                    *begin, *end, data.size()));
  }
  const std::uint64_t bits = *values * type->bits;  // below 2^62
  if (bits % 8 != 0) {
    return bad(
        fmt::format("shape: {} {} is no whole number of bytes", type_name, to_string(out.shape)));
  }
  if (bits / 8 != *end - *begin) {
    return bad(fmt::format("data_offsets: [{}, {}] is {} bytes, but {} {} needs {}", *begin, *end,
                           *end - *begin, type_name, to_string(out.shape), bits / 8));
  }
  out.data = data.subspan(*begin, *end - *begin);
  extent.begin = *begin;
  extent.end = *end;
  return out;
}

}  // namespace

Result<Safetensors> Safetensors::open(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return std::unexpected(file.error());
  auto out = parse(file->bytes(), path.string());
  if (out) out->file_ = std::move(*file);
  return out;
}

Result<Safetensors> Safetensors::parse(std::span<const std::byte> bytes, std::string name) {
  const auto bad = [&name](ErrorCode code, std::string_view message) {
    return error(code, fmt::format("{}: {}", name, message));
  };
  ByteCursor cursor(bytes);
  const auto length = cursor.number<std::uint64_t>();
  if (!length) return bad(ErrorCode::kCorrupt, "shorter than the 8 bytes of the header length");
  if (*length > kHeaderMax) {
    return bad(
        ErrorCode::kTooLarge,
        fmt::format("header length: {} bytes, more than the limit of {}", *length, kHeaderMax));
  }
  if (*length > cursor.remaining()) {
    return bad(ErrorCode::kCorrupt,
               fmt::format("header length: {} bytes, but the file has only {} more", *length,
                           cursor.remaining()));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + cursor.position(),
                              *length);
  const auto header = parse_json(text, name + ": header");
  if (!header) return std::unexpected(header.error());
  if (!header->is_object()) return bad(ErrorCode::kCorrupt, "header: expected a JSON object");

  const auto data = bytes.subspan(cursor.position() + *length);
  Safetensors out;
  std::vector<Extent> extents;
  for (const auto& [key, value] : header->items()) {
    if (key == "__metadata__") continue;
    Extent extent;
    auto tensor = read_entry(value, data, extent);
    if (!tensor) {
      return bad(tensor.error().code,
                 fmt::format("tensor {}: {}", quote(key), tensor.error().message));
    }
    const auto at = out.tensors_.emplace(key, std::move(*tensor)).first;
    extent.name = &at->first;
    extents.push_back(extent);
  }

  std::ranges::sort(extents, [](const Extent& a, const Extent& b) {
    return std::tie(a.begin, a.end, *a.name) < std::tie(b.begin, b.end, *b.name);
  });
  std::uint64_t covered = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != covered) {
      return bad(ErrorCode::kCorrupt,
                 fmt::format("tensor {}: data_offsets: begins at {}, {} the tensor before it ends "
                             "at {}",
                             quote(*extent.name), extent.begin,
                             extent.begin < covered ? "overlaps:" : "leaves a gap:", covered));
    }
    covered = extent.end;
  }
  if (covered != data.size()) {
    return bad(ErrorCode::kCorrupt,
               fmt::format("{} bytes after the last tensor belong to none", data.size() - covered));
  }
  out.name_ = std::move(name);
  return out;
}

}  // namespace pd::model
