// A model for tests of everything above the kernels: fast, deterministic and unforgiving. K and V
// of a position follow from its token and from all K and V before it as they lie in memory, and so
// do the logits: any wrong, missing or foreign byte changes every later token.
#pragma once

#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/digest.h"
#include "base/rng.h"
#include "engine/forward_pass.h"

namespace pd::engine {

struct FakeModelOptions {
  std::int32_t vocab = 97;
  std::int32_t rows_max = 64;
  std::uint64_t weights = 1;       // another value is another model
  std::optional<TokenId> damaged;  // logits after this token are NaN
};

class FakeForwardPass final : public ForwardPass {
 public:
  explicit FakeForwardPass(const FakeModelOptions& options) : options_(options) {}

  // A layout that fits it: few bytes, but every dimension larger than one.
  static protocol::KvLayout layout(std::uint16_t block_tokens) {
    return {protocol::KvDType::kBF16, 2, 3, 4, block_tokens, 99};
  }

  std::span<const float> forward(std::span<const Segment> segments) override {
    std::int64_t rows = 0;
    for (const Segment& segment : segments) rows += std::ssize(segment.tokens);
    CHECK(rows <= options_.rows_max);
    ++passes;
    logits_.clear();
    for (const Segment& segment : segments) compute(segment);
    return logits_;
  }
  std::int32_t vocab() const override { return options_.vocab; }
  std::int32_t rows_max() const override { return options_.rows_max; }

  int passes = 0;

 private:
  template <typename Visit>
  static void each_head_row(const KvView& kv, std::int64_t position, const Visit& visit) {
    const protocol::KvLayout& layout = kv.layout();
    const auto bytes = static_cast<std::size_t>(layout.head_row().value());
    for (int layer = 0; layer < layout.layers; ++layer) {
      for (int k_or_v = 0; k_or_v < 2; ++k_or_v) {
        for (int head = 0; head < layout.kv_heads; ++head) {
          visit(std::span(kv.rows(layer, k_or_v, head, position).first, bytes));
        }
      }
    }
  }

  void compute(const Segment& segment) {
    CHECK(!segment.tokens.empty());
    const std::int64_t start = segment.position.value();
    const std::int64_t count = std::ssize(segment.tokens);
    CHECK(start + count <= segment.kv.capacity().value());
    Digest64 past(options_.weights);
    const auto read = [&](std::span<const std::byte> row) { past.update(row); };
    for (std::int64_t position = 0; position < start; ++position) {
      each_head_row(segment.kv, position, read);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const TokenId token = segment.tokens[static_cast<std::size_t>(i)];
      CHECK(token >= 0);
      CHECK(token < options_.vocab);
      const std::uint64_t state = mix64(past.value() ^ mix64(static_cast<std::uint64_t>(token)));
      std::uint64_t counter = 0;
      each_head_row(segment.kv, start + i, [&](std::span<std::byte> row) {
        for (std::byte& byte : row) byte = std::byte(counter_random(state, counter++) & 0xFF);
        past.update(row);
      });
      if (count - i <= segment.logits_rows) add_logits(state, token);
    }
  }

  void add_logits(std::uint64_t state, TokenId token) {
    for (std::int32_t id = 0; id < options_.vocab; ++id) {
      const double unit = to_unit(counter_random(~state, static_cast<std::uint64_t>(id)));
      const auto logit = static_cast<float>(6.0 * unit);
      logits_.push_back(token == options_.damaged ? std::numeric_limits<float>::quiet_NaN()
                                                  : logit);
    }
  }

  FakeModelOptions options_;
  std::vector<float> logits_;
};

}  // namespace pd::engine
