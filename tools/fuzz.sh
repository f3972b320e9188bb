#!/usr/bin/env bash
# Builds the fuzzers with clang 19 and runs each for SECONDS (default 60) from its corpus under tests/fuzz/corpus.
# tools/fuzz.sh SECONDS [NAME...]. New inputs go to build/fuzz/corpus; a crash is left as build/fuzz/crash-*.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
mkdir -p build
cmake --preset fuzz > build/configure-fuzz.log || { cat build/configure-fuzz.log; exit 1; }
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  mapfile -t names < <(git ls-files 'src/*_fuzz.cc' 'tests/*_fuzz.cc' | xargs -n1 basename | sed 's/\.cc$//' | sort)
fi
cmake --build --preset fuzz --target "${names[@]}"
run_one() {
  local name=$1
  mkdir -p "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
  if ! build/fuzz/"$name" -max_total_time="$2" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -print_final_stats=0 \
      -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" > "build/fuzz/$name.log" 2>&1; then
    tail -40 "build/fuzz/$name.log"
    echo "fuzz: $name failed; the input is build/fuzz/$name-*"
    return 1
  fi
  echo "fuzz: $name: $(grep -o 'Done [0-9]* runs' "build/fuzz/$name.log" || echo done)"
}
export -f run_one
printf '%s\n' "${names[@]}" | xargs -P 2 -I{} bash -c "run_one {} $seconds"
