#!/usr/bin/env bash
# Three times the load that the instances can take, then half of it 5 s later: how much is still served, and what the others
# are told and when.
#
#   bench/overload.sh [SECONDS]      of the overload, default 300
#
# Limits: goodput at least 90 % of the peak; everybody else gets 429 within the TTFT limit (2 s here); 5 s after it all is normal.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-300}
. bench/lib.sh
compile pdserve stub_workers
# 2 P that hold 4 prompts for 100 ms each: 80 requests/s.
start_stubs --prefill 2 --decode 2 --prefill-ms 100 --step-ms 10 --slots 4 --places 64
printf '[gateway]\nttft_limit = "2s"\n' > "$work/config.toml"
start_gateway --config "$work/config.toml"
# load NAME ARGS...: its summary is NAME.json, its requests are NAME.jsonl.
load() {
  local name=$1
  shift
  taskset -c "$others" "$bin/pdserve" bench serve "127.0.0.1:$port" --quiet --api completions --tokens-per-word 1 --input-tokens 32 \
    --output-tokens 16 --slo ttft=2s --json "$work/$name.json" --records "$work/$name.jsonl" "$@" > /dev/null
}
field() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda at, key: at[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"; }

header "bench/overload.sh $*"
load peak --concurrency 32 --seconds 20s
peak=$(field "$work/peak.json" per_second goodput)
load before --rate "$(python3 -c "print($peak / 2)")" --seconds 10s
load over --rate "$(python3 -c "print(3 * $peak)")" --seconds "${seconds}s"
sleep 5
load after --rate "$(python3 -c "print($peak / 2)")" --seconds 10s
python3 - "$work" "$peak" << 'PY'
import json, sys
work, peak = sys.argv[1], float(sys.argv[2])
def read(name):
    summary = json.load(open(f"{work}/{name}.json"))
    return summary, [json.loads(line) for line in open(f"{work}/{name}.jsonl")]
over, requests = read("over")
rejected = [r for r in requests if r["outcome"] == "rejected"]
late = sorted(r["e2e_ms"] for r in rejected)
statuses = {r["status"] for r in rejected}
print(f"peak {peak:.1f} requests/s; offered three times that for {over['sending_s']:.0f} s: {over['requests']}")
print(f"goodput {over['per_second']['goodput']:.1f}/s, {over['per_second']['goodput'] / peak:.1%} of the peak")
if late:
    print(f"rejected {len(rejected)}, all with {statuses}, after p50 {late[len(late) // 2]:.0f} ms, at most {late[-1]:.0f} ms (limit 2000)")
print(f"served with TTFT p50 {over['ttft_ms']['p50']:.0f} ms, p99 {over['ttft_ms']['p99']:.0f} ms")
for name in ("before", "after"):
    summary, _ = read(name)
    print(f"half the load, {name} it: {summary['requests']}, TTFT p50 {summary['ttft_ms']['p50']:.1f}, p99 {summary['ttft_ms']['p99']:.1f} ms")
PY
