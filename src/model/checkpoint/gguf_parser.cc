#include "model/checkpoint/gguf_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <type_traits>

#include "model/json_text.h"

namespace pd::model {
namespace {

constexpr std::size_t kMetadataMax = std::size_t{1} << 30;
constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 24;
constexpr std::size_t kKeyMax = 65535;        // the format's own limit
constexpr std::size_t kTensorNameMax = 1024;  // the format says 64
constexpr std::uint32_t kDimensionsMax = 4;
// Smallest encodings: what a count may at most be for the bytes that are left.
constexpr std::uint64_t kValueBytesMin = 8 + 4 + 1;
constexpr std::uint64_t kEntryBytesMin = 8 + 4 + 8 + 4 + 8;

enum MetadataType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

struct TensorType {
  std::uint32_t code;
  std::string_view name;
  std::optional<DType> dtype;
};

// Names of common types that we cannot widen make the message about them useful.
constexpr TensorType kTensorTypes[] = {
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {8, "Q8_0", DType::kQ8_0},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", {}},
    {13, "Q5_K", {}},
    {14, "Q6_K", {}},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {28, "F64", {}},
    {30, "BF16", DType::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
};

template <typename T>
constexpr bool fits_int64(T value) {
  if constexpr (std::is_same_v<T, std::uint64_t>) {
    return value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  } else {
    return true;
  }
}

}  // namespace

GgufParser::GgufParser(std::span<const std::byte> bytes, std::string name)
    : bytes_(bytes),
      cursor_(bytes.first(std::min(bytes.size(), kMetadataMax))),
      out_(new Gguf()),
      elements_left_(kElementsMax) {
  out_->name_ = std::move(name);
}

std::unexpected<Error> GgufParser::corrupt(std::string_view message) const {
  return error(ErrorCode::kCorrupt, fmt::format("{}: {}", out_->name_, message));
}

std::unexpected<Error> GgufParser::ends_inside(std::string_view what) const {
  return corrupt(
      fmt::format("{}: runs past the end of the file (truncated, or a length that lies)", what));
}

Result<std::unique_ptr<Gguf>> GgufParser::parse() {
  Status ok = read_header();
  if (ok) ok = read_metadata();
  if (ok) ok = read_directory();
  if (ok) ok = place_tensors();
  if (!ok) return std::unexpected(ok.error());
  return std::move(out_);
}

Status GgufParser::read_header() {
  const auto magic = cursor_.number<std::uint32_t>();
  if (!magic || *magic != 0x46554747)
    return corrupt(
        "not a GGUF file (the magic is missing); a Hugging Face model is opened by its folder");
  const auto version = cursor_.number<std::uint32_t>();
  if (!version) return ends_inside("version");
  if ((*version & 0xFFFFU) == 0 && *version != 0) {
    return error(
        ErrorCode::kUnsupported,
        fmt::format("{}: version: the file is big-endian, which is not supported", out_->name_));
  }
  if (*version != 2 && *version != 3) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: version: {} is not supported (2 and 3 are); convert the model "
                             "again with a current converter",
                             out_->name_, *version));
  }
  const auto tensors = cursor_.number<std::uint64_t>();
  const auto values = cursor_.number<std::uint64_t>();
  if (!tensors) return ends_inside("tensor_count");
  if (!values) return ends_inside("metadata_kv_count");
  if (*tensors > cursor_.remaining() / kEntryBytesMin) {
    return corrupt(fmt::format("tensor_count: {} tensors do not fit in the file", *tensors));
  }
  if (*values > cursor_.remaining() / kValueBytesMin) {
    return corrupt(fmt::format("metadata_kv_count: {} values do not fit in the file", *values));
  }
  tensor_count_ = *tensors;
  value_count_ = *values;
  return {};
}

Status GgufParser::read_metadata() {
  for (std::uint64_t i = 0; i < value_count_; ++i) {
    const auto key = cursor_.text(kKeyMax);
    if (!key) return ends_inside(fmt::format("key of metadata value {}", i));
    const std::string where = "metadata " + quote(*key);
    if (out_->values_.contains(*key)) return corrupt(where + ": occurs twice");
    const auto type = cursor_.number<std::uint32_t>();
    if (!type) return ends_inside(where);
    Result<Gguf::Value> value = read_value(*type);
    if (!value) return corrupt(fmt::format("{}: {}", where, value.error().message));
    out_->values_.emplace(std::string(*key), std::move(*value));
  }
  return {};
}

// The errors of the value readers lack file and key: read_metadata() puts them in front.
template <typename T>
std::optional<Gguf::Value> GgufParser::read_number() {
  const auto number = cursor_.number<T>();
  if (!number || !fits_int64(*number)) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<double>(*number);
  } else {
    return static_cast<std::int64_t>(*number);
  }
}

Result<Gguf::Value> GgufParser::read_value(std::uint32_t type) {
  std::optional<Gguf::Value> value;
  switch (type) {
    case kUint8:
      value = read_number<std::uint8_t>();
      break;
    case kInt8:
      value = read_number<std::int8_t>();
      break;
    case kUint16:
      value = read_number<std::uint16_t>();
      break;
    case kInt16:
      value = read_number<std::int16_t>();
      break;
    case kUint32:
      value = read_number<std::uint32_t>();
      break;
    case kInt32:
      value = read_number<std::int32_t>();
      break;
    case kFloat32:
      value = read_number<float>();
      break;
    case kUint64:
      value = read_number<std::uint64_t>();
      break;
    case kInt64:
      value = read_number<std::int64_t>();
      break;
    case kFloat64:
      value = read_number<double>();
      break;
    case kBool:
      if (const auto flag = cursor_.number<std::uint8_t>(); flag && *flag <= 1) {
        value = Gguf::Value(*flag == 1);
      }
      break;
    case kString:
      if (const auto text = cursor_.text(kMetadataMax)) value = std::string(*text);
      break;
    case kArray:
      return read_array();
    default:
      return error(ErrorCode::kCorrupt, fmt::format("unknown value type {}", type));
  }
  if (!value) {
    return error(ErrorCode::kCorrupt, "the value is out of range or runs past the end of the file");
  }
  return std::move(*value);
}

template <typename T, typename Wide>
Result<Gguf::Value> GgufParser::read_numbers(std::uint64_t count) {
  std::vector<Wide> out;
  if (count > cursor_.remaining() / sizeof(T)) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("{} elements run past the end of the file", count));
  }
  out.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const T number = cursor_.number<T>().value_or(T{});
    if (!fits_int64(number)) {
      return error(ErrorCode::kCorrupt, fmt::format("element {} is out of range", i));
    }
    out.push_back(static_cast<Wide>(number));
  }
  return Gguf::Value(std::move(out));
}

Result<Gguf::Value> GgufParser::read_strings(std::uint64_t count) {
  if (count > cursor_.remaining() / sizeof(std::uint64_t)) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("{} elements run past the end of the file", count));
  }
  std::vector<std::string> out;
  out.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto text = cursor_.text(kMetadataMax);
    if (!text) {
      return error(ErrorCode::kCorrupt, fmt::format("element {} runs past the end of the file", i));
    }
    out.emplace_back(*text);
  }
  return Gguf::Value(std::move(out));
}

Result<Gguf::Value> GgufParser::read_array() {
  const auto type = cursor_.number<std::uint32_t>();
  const auto count = cursor_.number<std::uint64_t>();
  if (!type || !count) {
    return error(ErrorCode::kCorrupt, "the array runs past the end of the file");
  }
  if (*count > elements_left_) {
    return error(ErrorCode::kTooLarge,
                 fmt::format("an array of {} elements; {} are allowed in all arrays together",
                             *count, kElementsMax));
  }
  elements_left_ -= *count;
  switch (*type) {
    case kUint8:
      return read_numbers<std::uint8_t, std::int64_t>(*count);
    case kBool:
      return read_numbers<std::uint8_t, std::int64_t>(*count);
    case kInt8:
      return read_numbers<std::int8_t, std::int64_t>(*count);
    case kUint16:
      return read_numbers<std::uint16_t, std::int64_t>(*count);
    case kInt16:
      return read_numbers<std::int16_t, std::int64_t>(*count);
    case kUint32:
      return read_numbers<std::uint32_t, std::int64_t>(*count);
    case kInt32:
      return read_numbers<std::int32_t, std::int64_t>(*count);
    case kUint64:
      return read_numbers<std::uint64_t, std::int64_t>(*count);
    case kInt64:
      return read_numbers<std::int64_t, std::int64_t>(*count);
    case kFloat32:
      return read_numbers<float, double>(*count);
    case kFloat64:
      return read_numbers<double, double>(*count);
    case kString:
      return read_strings(*count);
    case kArray:
      return error(ErrorCode::kCorrupt, "arrays inside arrays are not supported");
    default:
      return error(ErrorCode::kCorrupt, fmt::format("unknown element type {}", *type));
  }
}

Status GgufParser::read_directory() {
  entries_.reserve(tensor_count_);  // read_header() checked it against the file's size
  for (std::uint64_t i = 0; i < tensor_count_; ++i) {
    Result<Entry> entry = read_entry();
    if (!entry) return std::unexpected(entry.error());
    entries_.push_back(std::move(*entry));
  }
  return read_alignment();
}

Result<GgufParser::Entry> GgufParser::read_entry() {
  const auto name = cursor_.text(kTensorNameMax);
  if (!name) return ends_inside(fmt::format("name of tensor {}", entries_.size()));
  Entry entry;
  entry.name = *name;
  const std::string where = "tensor " + quote(*name);
  if (const Status ok = read_shape(entry); !ok) return std::unexpected(ok.error());

  const auto type = cursor_.number<std::uint32_t>();
  const auto offset = cursor_.number<std::uint64_t>();
  if (!type || !offset) return ends_inside(where);
  const auto* known = std::ranges::find(kTensorTypes, *type, &TensorType::code);
  if (known == std::end(kTensorTypes) || !known->dtype) {
    const std::string_view type_name = known == std::end(kTensorTypes) ? "unknown" : known->name;
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: {}: type {} ({}) is not supported; use a file with F32, F16, "
                             "BF16, Q8_0, Q4_0 or Q4_1",
                             out_->name_, where, type_name, *type));
  }
  entry.info.dtype = *known->dtype;
  const auto size = byte_size(entry.info);
  if (!size) {
    return corrupt(fmt::format("{}: shape {} is impossible for {}", where,
                               to_string(entry.info.shape), known->name));
  }
  entry.offset = *offset;
  entry.size = static_cast<std::uint64_t>(*size);
  return entry;
}

Status GgufParser::read_shape(Entry& entry) {
  const std::string where = "tensor " + quote(entry.name);
  const auto dimensions = cursor_.number<std::uint32_t>();
  if (!dimensions) return ends_inside(where);
  if (*dimensions < 1 || *dimensions > kDimensionsMax) {
    return corrupt(
        fmt::format("{}: {} dimensions, expected 1 to {}", where, *dimensions, kDimensionsMax));
  }
  for (std::uint32_t i = 0; i < *dimensions; ++i) {
    const auto dim = cursor_.number<std::uint64_t>();
    if (!dim) return ends_inside(where);
    if (*dim == 0 || !fits_int64(*dim)) {
      return corrupt(fmt::format("{}: dimension {} is {}", where, i, *dim));
    }
    entry.info.shape.push_back(static_cast<std::int64_t>(*dim));
  }
  std::ranges::reverse(entry.info.shape);
  return {};
}

Status GgufParser::read_alignment() {
  constexpr std::string_view kKey = "general.alignment";
  if (out_->find(kKey) == nullptr) return {};
  const auto value = out_->integer(kKey);
  const bool fits = value && *value >= 8 && *value <= (1 << 20) && (*value & (*value - 1)) == 0;
  if (!fits) {
    return corrupt(fmt::format("metadata '{}': expected a power of two from 8 to 1048576", kKey));
  }
  alignment_ = static_cast<std::uint64_t>(*value);
  return {};
}

Status GgufParser::place_tensors() {
  if (entries_.empty()) return {};
  const std::uint64_t start = (cursor_.position() + alignment_ - 1) / alignment_ * alignment_;
  if (start > bytes_.size()) return ends_inside("tensor data");
  const auto data = bytes_.subspan(start);
  std::ranges::sort(entries_, [](const Entry& a, const Entry& b) {
    return std::tie(a.offset, a.name) < std::tie(b.offset, b.name);
  });
  const Entry* previous = nullptr;
  for (Entry& entry : entries_) {
    const std::string where = "tensor " + quote(entry.name);
    if (entry.offset % alignment_ != 0) {
      return corrupt(fmt::format("{}: offset {} is not a multiple of the alignment {}", where,
                                 entry.offset, alignment_));
    }
    if (entry.offset > data.size() || entry.size > data.size() - entry.offset) {
      return corrupt(
          fmt::format("{}: offset {} and size {} run past the end of the file ({} bytes "
                      "of tensor data)",
                      where, entry.offset, entry.size, data.size()));
    }
    if (previous != nullptr && previous->offset + previous->size > entry.offset) {
      return corrupt(fmt::format("{}: overlaps tensor {}", where, quote(previous->name)));
    }
    previous = &entry;
    const auto [at, is_new] = out_->tensors_.try_emplace(
        entry.name, Gguf::Tensor{entry.info, data.subspan(entry.offset, entry.size)});
    if (!is_new) return corrupt(where + ": occurs twice");
  }
  return {};
}

}  // namespace pd::model
