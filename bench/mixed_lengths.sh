#!/usr/bin/env bash
# Short prompts alone, then with one in twenty 64 times as long among them, at half of what the cluster can take of these: what
# the long ones do to the short ones' TTFT, and when they begin themselves. A whole cluster with the tiny model, 6 and 384 tokens,
# in chunks of 16: beside prompts of 500 tokens and 32,000 the default of 256 is shorter than the short ones.
#
#   bench/mixed_lengths.sh [SECONDS]     of each load, default 30
#
# Limits: p99 of the short ones' TTFT at most three times theirs alone; every long one begins within the TTFT limit.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30} rounds=3
. bench/lib.sh
compile pdserve
printf '[prefill]\nchunk_tokens = 16\n' > "$work/config.toml"
child "$bin/pdserve" up --config "$work/config.toml" --model stories260K --prefill 2 --decode 2 --port 0 --no-question --state "$work/state" > "$work/log" 2>&1
timeout 60 bash -c "until [ -s '$work/state' ]; do sleep 0.1; done" || { cat "$work/log"; exit 1; }
address=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["gateway"])' "$work/state")

# load NAME TOKENS ARGS...: its summary is NAME.json.
load() {
  local name=$1 tokens=$2
  shift 2
  "$bin/pdserve" bench serve "$address" --quiet --api completions --input-tokens "$tokens" --output-tokens 8 \
    --json "$work/$name.json" "$@" > "$work/$name.log" || { cat "$work/$name.log"; exit 1; }
}
peak_of() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["per_second"]["requests"])' "$work/$1.json"; }

header "bench/mixed_lengths.sh $*"
load short_peak 6 --concurrency 32 --seconds 5s
load long_peak 384 --concurrency 32 --seconds 5s
# Half of the rate at which nineteen short ones and a long one take all of the time.
read -r short long < <(python3 -c '
import sys
short, long = (float(word) for word in sys.argv[1:])
every = 0.5 / (0.95 / short + 0.05 / long)
print(f"{0.95 * every:.2f} {0.05 * every:.2f}")' "$(peak_of short_peak)" "$(peak_of long_peak)")
for round in $(seq "$rounds"); do
  load "alone$round" 6 --rate "$short" --seconds "${seconds}s"
  child load "long$round" 384 --rate "$long" --seconds "${seconds}s"
  beside=$pid
  load "mixed$round" 6 --rate "$short" --seconds "${seconds}s"
  wait "$beside"
done
python3 - "$work" "$rounds" "$short" "$long" << 'PY'
import json, statistics, sys
work, rounds = sys.argv[1], int(sys.argv[2])
print(f"{sys.argv[3]} short prompts a second, {sys.argv[4]} long ones; median [least, most] of {rounds} rounds")
def read(name):
    return [json.load(open(f"{work}/{name}{i + 1}.json")) for i in range(rounds)]
def show(values):
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"
for name in ("alone", "mixed", "long"):
    runs = read(name)
    lost = sum(run["requests"]["offered"] - run["requests"]["completed"] for run in runs)
    print(f"{name:6} TTFT p50 {show([run['ttft_ms']['p50'] for run in runs])} ms,"
          f" p99 {show([run['ttft_ms']['p99'] for run in runs])} ms,"
          f" at most {show([run['ttft_ms']['max'] for run in runs])} ms; {lost} without an answer")
ratio = [mixed["ttft_ms"]["p99"] / alone["ttft_ms"]["p99"] for alone, mixed in zip(read("alone"), read("mixed"))]
print(f"p99 of the short ones beside the long: {show(ratio)} times theirs alone (limit 3)")
PY
