#!/usr/bin/env bash
# Every benchmark in turn. Each script says what it measures and against what.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --build --preset release --target benches
for script in bench/first_token.py bench/handoff.sh bench/gateway.sh bench/engine.sh; do
  printf '\n== %s\n' "$script"
  "$script"
done
printf '\n== relay of one core\n'
build/release/net_bench
