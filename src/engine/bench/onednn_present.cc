#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "base/time.h"
#include "engine/bench/limits.h"

namespace pd::engine::bench {

double onednn_rate(std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  using dnnl::memory;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc x({rows, depth}, memory::data_type::bf16, memory::format_tag::ab);
  const memory::desc w({depth, columns}, memory::data_type::bf16, memory::format_tag::any);
  const memory::desc y({rows, columns}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc plan(dnnl::matmul::desc(x, w, y), engine);
  dnnl::matmul product(plan);
  // Several weights in turn, so that few rows read them from memory and not from a cache.
  const auto bytes = static_cast<std::int64_t>(plan.weights_desc().get_size());
  const std::int64_t copies = std::max<std::int64_t>(1, (std::int64_t{512} << 20) / bytes);
  memory input(x, engine);
  memory output(y, engine);
  std::vector<memory> weights;
  for (std::int64_t i = 0; i < copies; ++i) {
    weights.emplace_back(plan.weights_desc(), engine);
    // Written once: memory that never was is one page of zeros, which no cache misses.
    std::memset(weights.back().get_data_handle(), 0x3C, static_cast<std::size_t>(bytes));
  }
  double best = 1e9;
  for (int run = 0; run < (rows >= 32 ? 60 : 600); ++run) {
    const memory& one = weights[static_cast<std::size_t>(run % copies)];
    const Time start = SteadyTime::now();
    product.execute(stream,
                    {{DNNL_ARG_SRC, input}, {DNNL_ARG_WEIGHTS, one}, {DNNL_ARG_DST, output}});
    stream.wait();
    best = std::min(best, to_seconds(SteadyTime::now() - start));
  }
  return 2.0 * static_cast<double>(rows * columns * depth) / best;
}

}  // namespace pd::engine::bench
