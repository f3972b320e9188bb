#include <algorithm>
#include <limits>

#include "engine/kernels/bf16.h"
#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

const std::byte* row_of(const KvPlane& plane, int head, std::int64_t position) {
  const std::byte* base = plane.base;
  if (plane.table != nullptr) {
    base += plane.table[position / plane.block_tokens] * plane.block_bytes;
    position %= plane.block_tokens;
  }
  return base + head * plane.head_bytes + position * plane.token_bytes;
}

float element(const std::byte* row, protocol::KvDType dtype, int i) {
  return dtype == protocol::KvDType::kF32
             ? reinterpret_cast<const float*>(row)[i]
             : from_bf16(reinterpret_cast<const std::uint16_t*>(row)[i]);
}

// One query over the positions [begin, end).
void attend(const AttentionArgs& args, const float* q, std::int64_t begin, std::int64_t end,
            float* out) {
  const int dim = args.head_dim;
  float maximum = kMinusInfinity;
  float sum = 0.0F;
  std::fill(out, out + dim, 0.0F);
  for (std::int64_t block = begin / kAttentionBlock * kAttentionBlock; block < end;
       block += kAttentionBlock) {
    const std::int64_t first = std::max(block, begin);
    const std::int64_t last = std::min(block + kAttentionBlock, end);
    float weight[kAttentionBlock];
    float block_maximum = maximum;
    for (std::int64_t p = first; p < last; ++p) {
      const std::byte* k = row_of(args.k, args.kv_head, p);
      float score = 0.0F;
      for (int d = 0; d < dim; ++d) score += q[d] * element(k, args.kv_dtype, d);
      weight[p - block] = score * args.scale;
      block_maximum = std::max(block_maximum, weight[p - block]);
    }
    const float rescale = static_cast<float>(exponential(double{maximum} - block_maximum));
    maximum = block_maximum;
    sum *= rescale;
    for (int d = 0; d < dim; ++d) out[d] *= rescale;
    for (std::int64_t p = first; p < last; ++p) {
      const float w = static_cast<float>(exponential(double{weight[p - block]} - maximum));
      sum += w;
      const std::byte* v = row_of(args.v, args.kv_head, p);
      for (int d = 0; d < dim; ++d) out[d] += w * element(v, args.kv_dtype, d);
    }
  }
  for (int d = 0; d < dim; ++d) out[d] /= sum;
}

}  // namespace

void attention(const AttentionArgs& args) {
  for (std::int64_t token = 0; token < args.tokens; ++token) {
    const std::int64_t end = args.position + token + 1;
    const std::int64_t begin = args.window > 0 ? std::max<std::int64_t>(0, end - args.window) : 0;
    for (int h = 0; h < args.group; ++h) {
      const std::int64_t head = (args.kv_head * args.group + h) * std::int64_t{args.head_dim};
      attend(args, args.q + token * args.q_stride + head, begin, end,
             args.out + token * args.out_stride + head);
    }
  }
}

}  // namespace pd::engine::reference
