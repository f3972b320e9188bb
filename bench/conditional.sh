#!/usr/bin/env bash
# Time to the first token and to the end, by length of the prompt, at low load, of three groups of two instances each:
#   aggregated    two that do both
#   apart         one prefills, one decodes
#   conditional   one prefills, one does both: each request whole or apart, as [group] whole = "auto" decides
# and the same of `conditional` and `apart` divided by `aggregated`, measured in turn: the median of the rounds' ratios, so
# that a slow moment of the machine meets all three. The bar is 1.10 in every bucket. The last bucket is of prompts that all begin
# with the same 320 tokens, on three such groups with prefix caches; the others have none.
#   bench/conditional.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-15}
mkdir -p build
cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
cmake --build --preset release --target pdserve > build/conditional.log || { cat build/conditional.log; exit 1; }
pdserve=build/release/pdserve
work=$(mktemp -d)
children=()
stop() {
  for child in "${children[@]}"; do kill "$child" 2> /dev/null || true; done
  for child in "${children[@]}"; do wait "$child" 2> /dev/null || true; done
}
trap 'stop; rm -rf "$work"' EXIT

printf '[worker]\nthreads = 1\n' > "$work/cached.toml"
printf '[worker]\nthreads = 1\n[prefill]\nprefix_cache = "0B"\n' > "$work/plain.toml"
# up NAME ARGS...: a cluster; its state is NAME.json, its configuration what stands behind the dash.
up() {
  local name=$1
  shift
  "$pdserve" up --config "$work/${name#*-}.toml" --model stories260K --port 0 --no-question --log warn --state "$work/$name.json" "$@" \
    > "$work/$name.log" 2>&1 &
  children+=($!)
  timeout 30 bash -c "until [ -s '$work/$name.json' ]; do sleep 0.05; done" || { cat "$work/$name.log"; exit 1; }
}
gateway() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["gateway"])' "$work/$1.json"; }

echo "machine: $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"
echo "commit:  $(git rev-parse --short HEAD)"
echo "command: bench/conditional.sh $rounds"
for config in plain cached; do
  up aggregated-$config --both 2
  up apart-$config --prefill 1 --decode 1
  up conditional-$config --both 1 --prefill 1
done
# Tokens of a prompt, and how many of them all begin with.
buckets=(16-0 64-0 128-0 256-0 352-0 352-320)
for round in $(seq 0 "$rounds"); do # the first is for measuring costs, and for warm memory
  for bucket in "${buckets[@]}"; do
    tokens=${bucket%-*} prefix=${bucket#*-} config=plain
    [ "$prefix" = 0 ] || config=cached
    for name in aggregated apart conditional; do
      dataset=(--input-tokens "$((tokens - prefix))")
      [ "$prefix" = 0 ] || dataset+=(--dataset shared-prefix --prefixes 1 --prefix-tokens "$prefix")
      "$pdserve" bench serve "$(gateway "$name-$config")" --quiet --api completions "${dataset[@]}" --output-tokens 32 \
        --concurrency 1 --requests 20 --seed "$((round * 1000 + tokens))" --json "$work/s.json" \
        > /dev/null
      [ "$round" = 0 ] || python3 -c 'import json, sys
s = json.load(open(sys.argv[1]))
assert s["requests"]["failed"] == 0, s["requests"]
print(*sys.argv[2:], s["ttft_ms"]["p50"], s["e2e_ms"]["p50"])' "$work/s.json" "$name" "$bucket" >> "$work/all"
    done
  done
done
served_whole() {
  curl -s "$(gateway "conditional-$1")/metrics" | awk '$1 == "pdserve_decoded_where_prefilled_total" { w = $2 }
  $1 == "pdserve_handoffs_total" { h = $2 } END { printf "%d of %d", w, h }'
}
python3 - "$work/all" "$(served_whole plain), with caches $(served_whole cached)" << 'END'
import collections, statistics, sys
seen = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, bucket, ttft, e2e = line.split()
    seen[name, tuple(map(int, bucket.split("-")))].append((float(ttft), float(e2e)))
median = {key: [statistics.median(one) for one in zip(*values)] for key, values in seen.items()}
spread = {key: [f"{min(one):.2f}-{max(one):.2f}" for one in zip(*values)] for key, values in seen.items()}
ratio = {(name, bucket): [statistics.median(a[i] / b[i] for a, b in zip(values, seen["aggregated", bucket])) for i in (0, 1)]
         for (name, bucket), values in seen.items()}
print(f"\nmedians of {len(next(iter(seen.values())))} rounds' medians, ms [least-most]; ratio to aggregated")
worst = 0
for bucket in sorted({key[1] for key in seen}):
    for name in ("aggregated", "apart", "conditional"):
        ratios = ratio[name, bucket]
        print(f"{bucket[0]:4} tokens, {bucket[1]:3} cached  {name:11}  " + "  ".join(
            f"{what} {median[name, bucket][i]:6.2f} [{spread[name, bucket][i]}] {ratios[i]:.2f}"
            for i, what in enumerate(("TTFT", "E2E"))))
        if name == "conditional":
            worst = max(worst, *ratios)
print(f"served whole in `conditional`: {sys.argv[2]}")
print(f"worst ratio of conditional: {worst:.2f} (bar: 1.10)")
END
