#!/usr/bin/env bash
# Every check and test, from a clean checkout: rules, build, unit and property tests, end-to-end tests with real
# processes and real clients. tools/test.sh STAGE... runs only those stages, and these two only when they are asked
# for: fuzz (every parser, a short run each) and sanitize (ASan and UBSan over unit and end-to-end tests); e2e-all adds the
# end-to-end tests of survival, overload and the commands' behaviour, whose limits in seconds need a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(rules build unit e2e)

stage() { printf '\n== %s\n' "$1"; }
run_ctest() { ctest --test-dir "$1" --output-on-failure -j2 "${@:2}"; }

rules() {
  stage "rules: formatting and the project's own"
  tools/format.sh --check
  tools/tidy/tidy.py
}
build() {
  stage "build"
  mkdir -p build
  cmake --preset release > build/configure.log || { cat build/configure.log; return 1; }
  cmake --build --preset release
}
unit() {
  stage "test data: tokenizers of vendors, the default model"
  tools/fetch_test_data.sh
  stage "unit and property tests"
  run_ctest build/release
}
e2e() {
  stage "end-to-end: real processes, real clients"
  tests/e2e/run.sh build/release/pdserve -k 'smoke or exactness or clients or commands or transport'
}
e2e-all() {
  stage "end-to-end: everything"
  tests/e2e/run.sh build/release/pdserve
}
fuzz() {
  stage "fuzzers, a short run each"
  tools/fuzz.sh "${FUZZ_SECONDS:-5}"
}
sanitize() {
  stage "address and undefined-behaviour sanitizers"
  cmake --preset asan-ubsan > build/configure-asan.log || { cat build/configure-asan.log; return 1; }
  cmake --build --preset asan-ubsan
  run_ctest build/asan-ubsan
  tests/e2e/run.sh build/asan-ubsan/pdserve -k smoke
}

for s in "${stages[@]}"; do "$s"; done
printf '\nAll passed: %s\n' "${stages[*]}"
