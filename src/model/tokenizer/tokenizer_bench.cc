// Megabytes of text a second, one thread:
//   tokenizer_bench TEXT TOKENIZER... [--benchmark_...]
// TEXT: a file of texts separated by NUL bytes. TOKENIZER: a tokenizer.json, its folder or a GGUF
// file. bench/tokenizer_speed.py makes the texts and runs this beside the Python package
// `tokenizers`.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>

#include "base/mapped_file.h"
#include "model/checkpoint/gguf.h"
#include "model/tokenizer/tokenizer.h"

namespace pd::model {
namespace {

template <typename T>
T value_or_exit(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "tokenizer_bench: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(*result);
}

Result<Tokenizer> open_tokenizer(const std::string& path) {
  if (!path.ends_with(".gguf")) return Tokenizer::from_huggingface(path);
  const auto gguf = Gguf::open(path);
  if (!gguf) return std::unexpected(gguf.error());
  return Tokenizer::from_gguf(**gguf);
}

std::vector<std::string> split_texts(const std::string& all) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find('\0', at), all.size());
    out.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

void set_rate(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
}

void load(benchmark::State& state, const std::string& path) {
  for (auto _ : state) benchmark::DoNotOptimize(value_or_exit(open_tokenizer(path)));
}

void encode(benchmark::State& state, const std::string& path, const std::string& all) {
  const Tokenizer tokenizer = value_or_exit(open_tokenizer(path));
  const auto texts = split_texts(all);
  for (auto _ : state) {
    for (const auto& text : texts) benchmark::DoNotOptimize(value_or_exit(tokenizer.encode(text)));
  }
  set_rate(state, all.size());
}

void decode(benchmark::State& state, const std::string& path, const std::string& all) {
  const Tokenizer tokenizer = value_or_exit(open_tokenizer(path));
  std::vector<std::vector<TokenId>> ids;
  for (const auto& text : split_texts(all)) ids.push_back(value_or_exit(tokenizer.encode(text)));
  for (auto _ : state) {
    for (const auto& one : ids)
      benchmark::DoNotOptimize(value_or_exit(tokenizer.decode(one, true)));
  }
  set_rate(state, all.size());
}

// One long text without a place to cut: the merge loop's heap.
void encode_run(benchmark::State& state, const std::string& path) {
  const Tokenizer tokenizer = value_or_exit(open_tokenizer(path));
  const std::string text(static_cast<std::size_t>(state.range(0)), 'a');
  for (auto _ : state) benchmark::DoNotOptimize(value_or_exit(tokenizer.encode(text)));
  set_rate(state, text.size());
}

}  // namespace
}  // namespace pd::model

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc < 3) {
    std::fprintf(stderr, "usage: tokenizer_bench TEXT TOKENIZER... [--benchmark_...]\n");
    return 1;
  }
  const std::string all = pd::model::value_or_exit(pd::read_file(argv[1], std::size_t{1} << 30));
  for (int i = 2; i < argc; ++i) {
    const std::string path = argv[i];
    const auto add = [&](const char* what, const auto& run) {
      return benchmark::RegisterBenchmark((what + ("/" + path)).c_str(), run)
          ->Unit(benchmark::kMillisecond);
    };
    add("load", [=](auto& state) { pd::model::load(state, path); });
    add("encode", [=](auto& state) { pd::model::encode(state, path, all); });
    add("decode", [=](auto& state) { pd::model::decode(state, path, all); });
    add("encode_run", [=](auto& state) { pd::model::encode_run(state, path); })
        ->Arg(100'000)
        ->Arg(1'000'000);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
