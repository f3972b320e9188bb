#!/usr/bin/env bash
# Every check and test, from a clean checkout: rules, build, unit and property tests, simulation by seed, end-to-end
# tests with real processes and real clients, then all of it again under the sanitizers, with a short run of every fuzzer.
#   tools/test.sh               everything: what CI runs
#   tools/test.sh STAGE...      only these: rules build unit e2e sanitize threads, and thorough (not among the default)
# FUZZ_SECONDS (default 3) is how long each fuzzer runs.
set -euo pipefail
cd "$(dirname "$0")/.."
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(rules build unit e2e sanitize threads)

stage() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }
run_ctest() { ctest --test-dir "$1" --output-on-failure -j2 "${@:2}"; }
configure() {
  mkdir -p build
  cmake --preset "$1" > "build/configure-$1.log" || { cat "build/configure-$1.log"; return 1; }
}
# Ninja's own progress is a line a file when its output is no terminal.
compile() { cmake --build --preset "$@" > "build/build-$1.log" || { tail -60 "build/build-$1.log"; return 1; }; }

rules() {
  stage "rules: formatting and the project's own"
  tools/format.sh --check
  tools/tidy/tidy.py
}
build() {
  stage "build: g++"
  configure release
  # Programs of the benchmarks rot when nobody builds them.
  compile release --target all stub_workers load_client rejection_cost
}
unit() {
  stage "test data: tokenizers of vendors, the default model"
  tools/fetch_test_data.sh
  stage "unit and property tests, simulation by seed"
  run_ctest build/release
}
e2e() {
  stage "end-to-end: real processes, real clients"
  tests/e2e/run.sh build/release/pdserve
}
# One build by clang 19 with ASan and UBSan serves the tests and the fuzzers; it is the second opinion on warnings too.
sanitize() {
  stage "build: clang, ASan and UBSan, fuzzers"
  configure fuzz
  compile fuzz
  stage "unit and property tests, sanitized"
  # What takes minutes there adds nothing to what the other models and kernels have shown it: the engine's kernels have
  # their own tests, and one model and one kernel set go the whole way.
  local skip='SmolLm2.*:*ThousandPrompts*/reference:*ThousandPrompts*/avx512:*ThousandPrompts*/avx512_bf16'
  skip+=':Models/*/tinymistral*:Models/*/tinyqwen25:Models/*/tinyllamalinear'
  skip+=':All/VendorTokenizer.*/llama3_1:GgufTokenizer.SmolLm2AgreesWithTheReference'
  skip+=':Models/Greedy.*/tinyqwen3:Models/Greedy.*/tinyllama31:KvBlocks.OutputsFourTimesLongerThanLearnedDoNotThrash'
  GTEST_FILTER="-$skip" run_ctest build/fuzz
  stage "end-to-end, sanitized"
  tests/e2e/run.sh build/fuzz/pdserve -k 'smoke or disconnect or transport or suite or proxies'
  stage "fuzzers, a short run each"
  tools/fuzz.sh "${FUZZ_SECONDS:-3}"
}
# Where threads meet: queues, pools, metrics, the event loop, connections between processes, the loops of a gateway, a load,
# transport.
threads() {
  stage "thread sanitizer"
  configure tsan
  compile tsan --target base_test net_test legs_test gateway_test load_test bench_test transfer_test transfer_process_test transfer_test_peer
  run_ctest build/tsan -R '^(base_test|net_test|legs_test|gateway_test|load_test|bench_test|transfer_test|transfer_process_test)$'
}
# On demand, before a release: engines and whole processes under TSan; every end-to-end test under ASan.
thorough() {
  stage "reference kernels, every prompt of the default model"
  build/release/numerics_test --gtest_also_run_disabled_tests --gtest_filter='SmolLm2.DISABLED_*'
  stage "end-to-end: 10,000 valid and 10,000 invalid requests drawn against OpenAI's description"
  tests/e2e/run.sh build/release/pdserve -k openapi --requests 10000
  stage "thread sanitizer, whole processes"
  configure tsan
  compile tsan --target pdserve engine_test
  run_ctest build/tsan -R '^engine_test$'
  # UCX hooks madvise when it is loaded; a thread that ends calls it after TSan's part of it has.
  UCX_MEM_EVENTS=n tests/e2e/run.sh build/tsan/pdserve
  stage "end-to-end, sanitized"
  tests/e2e/run.sh build/fuzz/pdserve
}

for s in "${stages[@]}"; do "$s"; done
for data in models/SmolLM2-135M-Instruct.Q4_1.gguf models/SmolLM2-135M-Instruct/model.safetensors \
            .cache/tokenizers/{llama3_1,qwen3,llama2}/tokenizer.json; do
  [ -f "$data" ] || printf '\nNOT TESTED: what needs %s, which could not be fetched or made\n' "$data"
done
printf '\nAll passed: %s (%s)\n' "${stages[*]}" "$(date +%T)"
