#!/usr/bin/env bash
# The KV handoff of one 64 MiB prompt between two processes, beside a memcpy in the same run.
# bench/handoff.sh [ROUNDS]. The limit: shared memory >= 0.8 x memcpy.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
cmake --build --preset release --target handoff_bench > build/handoff_bench.log || { cat build/handoff_bench.log; exit 1; }
echo "commit $(git rev-parse --short HEAD), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
build/release/handoff_bench "${1:-15}"
