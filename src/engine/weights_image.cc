#include "engine/weights_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/digest.h"
#include "engine/kernels/bf16.h"
#include "engine/rounding.h"

namespace pd::engine {
namespace {

constexpr std::int64_t kAlignment = 64;
// Rows of a matrix that are widened at a time: few enough to stay in the cache while transposed.
constexpr std::int64_t kRowsAtOnce = 4 * kTileRows;

std::int64_t packed_bytes(std::int64_t rows, std::int64_t columns, WeightType type) {
  const std::int64_t padded = round_up(rows, kTileRows);
  return type == WeightType::kF32 ? padded * columns * 4 : padded * round_up(columns, 2) * 2;
}

class PlanBuilder {
 public:
  explicit PlanBuilder(WeightType type) : type_(type) {}

  void matrix(std::int64_t columns, std::vector<std::string> parts,
              std::vector<std::int64_t> part_rows) {
    ImageTensor tensor{.parts = std::move(parts), .part_rows = std::move(part_rows)};
    for (const std::int64_t rows : tensor.part_rows) tensor.rows += rows;
    tensor.columns = columns;
    tensor.is_matrix = true;
    tensor.bytes = packed_bytes(tensor.rows, columns, type_);
    add(std::move(tensor));
  }
  void vector(std::vector<std::string> parts, std::vector<std::int64_t> sizes) {
    ImageTensor tensor{.parts = std::move(parts), .part_rows = std::move(sizes)};
    for (const std::int64_t size : tensor.part_rows) tensor.columns += size;
    tensor.rows = 1;
    tensor.bytes = tensor.columns * 4;
    add(std::move(tensor));
  }
  ImagePlan take() && {
    return {.type = type_, .tensors = std::move(tensors_), .bytes = round_up(end_, kAlignment)};
  }

 private:
  void add(ImageTensor tensor) {
    tensor.offset = round_up(end_, kAlignment);
    end_ = tensor.offset + tensor.bytes;
    tensors_.push_back(std::move(tensor));
  }
  WeightType type_;
  std::vector<ImageTensor> tensors_;
  std::int64_t end_ = ImageHeader::kBytes;
};

void plan_layer(PlanBuilder& plan, const model::ModelConfig& config, int index) {
  const std::string layer = fmt::format("model.layers.{}.", index);
  const std::string attention = layer + "self_attn.";
  const std::string mlp = layer + "mlp.";
  const std::int64_t q_rows = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv_rows = std::int64_t{config.kv_heads} * config.head_dim;
  plan.vector({layer + "input_layernorm.weight"}, {config.hidden});
  plan.matrix(
      config.hidden,
      {attention + "q_proj.weight", attention + "k_proj.weight", attention + "v_proj.weight"},
      {q_rows, kv_rows, kv_rows});
  if (config.qkv_bias) {
    plan.vector({attention + "q_proj.bias", attention + "k_proj.bias", attention + "v_proj.bias"},
                {q_rows, kv_rows, kv_rows});
  }
  if (config.qk_norm) {
    plan.vector({attention + "q_norm.weight"}, {config.head_dim});
    plan.vector({attention + "k_norm.weight"}, {config.head_dim});
  }
  plan.matrix(q_rows, {attention + "o_proj.weight"}, {config.hidden});
  plan.vector({layer + "post_attention_layernorm.weight"}, {config.hidden});
  plan.matrix(config.hidden, {mlp + "gate_proj.weight", mlp + "up_proj.weight"},
              {config.intermediate, config.intermediate});
  plan.matrix(config.intermediate, {mlp + "down_proj.weight"}, {config.hidden});
}

Status check_servable(const model::ModelConfig& config) {
  const auto refuse = [](std::string_view field, std::int64_t value, std::string_view limit) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("model configuration: {} is {}, must be {}", field, value, limit));
  };
  constexpr int kLayoutMax = 65535;  // KvLayout counts in 16 bits
  if (config.layers < 1 || config.layers > kLayoutMax)
    return refuse("the number of layers", config.layers, "1 to 65535");
  if (config.hidden < 1) return refuse("hidden_size", config.hidden, "at least 1");
  if (config.intermediate < 1)
    return refuse("intermediate_size", config.intermediate, "at least 1");
  if (config.vocab < 1) return refuse("vocab_size", config.vocab, "at least 1");
  if (config.head_dim < 2 || config.head_dim % 2 != 0 || config.head_dim > kHeadDimMax)
    return refuse("head_dim", config.head_dim, fmt::format("even, 2 to {}", kHeadDimMax));
  if (config.kv_heads < 1 || config.kv_heads > kLayoutMax)
    return refuse("num_key_value_heads", config.kv_heads, "1 to 65535");
  if (config.heads < 1 || config.heads % config.kv_heads != 0)
    return refuse("num_attention_heads", config.heads,
                  fmt::format("a multiple of num_key_value_heads, {}", config.kv_heads));
  return {};
}

// Rows [row, row + rows) of a tensor, widened, from the parts that hold them.
void read_rows(const model::Checkpoint& checkpoint, const ImageTensor& tensor, std::int64_t row,
               std::int64_t rows, std::span<float> out) {
  std::int64_t part_begin = 0;
  for (std::size_t i = 0; i < tensor.parts.size(); ++i) {
    const std::int64_t part_end = part_begin + tensor.part_rows[i];
    const std::int64_t first = std::max(row, part_begin);
    const std::int64_t last = std::min(row + rows, part_end);
    if (first < last) {
      const auto at = static_cast<std::size_t>((first - row) * tensor.columns);
      const auto size = static_cast<std::size_t>((last - first) * tensor.columns);
      checkpoint.read_f32(tensor.parts[i], first - part_begin, last - first, out.subspan(at, size));
    }
    part_begin = part_end;
  }
}

// rows: 16 rows of `columns` values. Both orders are those of Matrix.
void pack_tile_f32(std::span<const float> rows, std::int64_t columns, float* out) {
  for (std::int64_t j = 0; j < kTileRows; ++j) {
    const float* row = rows.data() + j * columns;
    for (std::int64_t k = 0; k < columns; ++k) out[k * kTileRows + j] = row[k];
  }
}

void pack_tile_bf16(std::span<const float> rows, std::int64_t columns, std::uint16_t* out) {
  for (std::int64_t j = 0; j < kTileRows; ++j) {
    const float* row = rows.data() + j * columns;
    for (std::int64_t k = 0; k < columns; ++k)
      out[(k / 2) * (2 * kTileRows) + 2 * j + k % 2] = round_to_bf16(row[k]);
  }
}

Status write_matrix(const model::Checkpoint& checkpoint, const ImageTensor& tensor, WeightType type,
                    const ImageSink& sink) {
  const std::int64_t tile_bytes = packed_bytes(kTileRows, tensor.columns, type);
  std::vector<float> rows(static_cast<std::size_t>(kRowsAtOnce * tensor.columns));
  std::vector<std::byte> packed(static_cast<std::size_t>(kRowsAtOnce / kTileRows * tile_bytes));
  for (std::int64_t row = 0; row < tensor.rows; row += kRowsAtOnce) {
    const std::int64_t count = std::min(kRowsAtOnce, tensor.rows - row);
    const std::int64_t tiles = round_up(count, kTileRows) / kTileRows;
    std::ranges::fill(rows, 0.0F);
    std::ranges::fill(packed, std::byte{0});
    read_rows(checkpoint, tensor, row, count, rows);
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::span<const float> from =
          std::span(rows).subspan(static_cast<std::size_t>(tile * kTileRows * tensor.columns),
                                  static_cast<std::size_t>(kTileRows * tensor.columns));
      std::byte* to = packed.data() + tile * tile_bytes;
      if (type == WeightType::kF32) {
        pack_tile_f32(from, tensor.columns, reinterpret_cast<float*>(to));
      } else {
        pack_tile_bf16(from, tensor.columns, reinterpret_cast<std::uint16_t*>(to));
      }
    }
    if (Status done = sink(std::span(packed).first(static_cast<std::size_t>(tiles * tile_bytes)));
        !done)
      return done;
  }
  return {};
}

Status write_vector(const model::Checkpoint& checkpoint, const ImageTensor& tensor,
                    const ImageSink& sink) {
  std::vector<float> values(static_cast<std::size_t>(tensor.columns));
  std::size_t at = 0;
  for (std::size_t i = 0; i < tensor.parts.size(); ++i) {
    const auto size = static_cast<std::size_t>(tensor.part_rows[i]);
    checkpoint.read_f32(tensor.parts[i], 0, 1, std::span(values).subspan(at, size));
    at += size;
  }
  return sink(std::as_bytes(std::span(values)));
}

std::uint64_t digest_of(const ImagePlan& plan) {
  Digest64 digest(static_cast<std::uint64_t>(plan.type));
  const auto number = [&](std::int64_t value) {
    digest.update(std::as_bytes(std::span(&value, 1)));
  };
  for (const ImageTensor& tensor : plan.tensors) {
    for (const std::string& part : tensor.parts) digest.update(std::as_bytes(std::span(part)));
    number(tensor.rows);
    number(tensor.columns);
    number(tensor.offset);
    number(tensor.bytes);
  }
  return digest.value();
}

}  // namespace

Result<ImagePlan> ImagePlan::make(const model::ModelConfig& config, WeightType type) {
  if (Status servable = check_servable(config); !servable) return std::unexpected(servable.error());
  PlanBuilder plan(type);
  plan.matrix(config.hidden, {"model.embed_tokens.weight"}, {config.vocab});
  if (!config.tied_embeddings) plan.matrix(config.hidden, {"lm_head.weight"}, {config.vocab});
  plan.vector({"model.norm.weight"}, {config.hidden});
  for (int layer = 0; layer < config.layers; ++layer) plan_layer(plan, config, layer);
  return std::move(plan).take();
}

ImageHeader ImagePlan::header(std::uint64_t weights_digest) const {
  ImageHeader header;
  header.type = static_cast<std::uint32_t>(type);
  header.weights_digest = weights_digest;
  header.plan_digest = digest_of(*this);
  header.image_bytes = bytes;
  return header;
}

Status write_image(const model::Checkpoint& checkpoint, const ImagePlan& plan,
                   const ImageSink& sink) {
  std::int64_t written = 0;
  const ImageSink counting = [&](std::span<const std::byte> piece) {
    written += static_cast<std::int64_t>(piece.size());
    return sink(piece);
  };
  const auto pad_to = [&](std::int64_t offset) -> Status {
    CHECK(written <= offset);
    const std::vector<std::byte> zeros(static_cast<std::size_t>(offset - written));
    return zeros.empty() ? Status{} : counting(zeros);
  };
  const ImageHeader header = plan.header(checkpoint.weights_digest());
  if (Status done = counting(std::as_bytes(std::span(&header, 1))); !done) return done;
  for (const ImageTensor& tensor : plan.tensors) {
    if (Status done = pad_to(tensor.offset); !done) return done;
    Status done = tensor.is_matrix ? write_matrix(checkpoint, tensor, plan.type, counting)
                                   : write_vector(checkpoint, tensor, counting);
    if (!done) return done;
  }
  Status done = pad_to(plan.bytes);
  CHECK(!done || written == plan.bytes);
  return done;
}

}  // namespace pd::engine
