#!/usr/bin/env bash
# Speed of the engine's arithmetic, each figure beside the limit it runs into (measured in the same
# run): the linear operator at 1 to 256 rows, then whole models, prefill and decode at batch 1, 8, 32.
#
#   bench/engine.sh [MODEL ...]      default: the default model and a synthetic one of 0.5B parameters in
#                                    BF16, both made or fetched at the first run (98 MB and 1 GB)
#
# Run it on a quiet machine: the spread column says how quiet it was.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset release > /dev/null
cmake --build build/release --target engine_bench > /dev/null

echo "machine: $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) processors"
echo "commit:  $(git rev-parse --short HEAD)"
# oneDNN is compared on one thread, as the kernels are.
OMP_NUM_THREADS=1 build/release/engine_bench linear

models=("$@")
if [ ${#models[@]} -eq 0 ]; then
  models=(models/SmolLM2-135M-Instruct.Q4_1.gguf models/synthetic-0.5b)
  tools/fetch_default_model.sh
  [ -e models/synthetic-0.5b/model.safetensors ] || python3 tools/make_synthetic_model.py --out models/synthetic-0.5b
fi
for model in "${models[@]}"; do
  for threads in 1 "$(nproc)"; do
    echo
    echo "model:   $model"
    build/release/engine_bench model "$model" auto "$threads"
  done
done
