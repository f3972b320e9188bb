#!/usr/bin/env bash
# Several gateways on one cluster, which know nothing of each other: whether they run after the same prefill instances, what
# rejections cost, and what waiting at the gateway gives against waiting at the instance.
#
#   bench/herding.sh [SECONDS [LOAD ...]]      of each measurement, default 40; loads in percent of what 32 P can take
#
#   pdserve     4 gateways before 32 P that hold one prompt each and reject others at once
#   local       4 HAProxies, each sends to the server with the fewest of its own requests under way; the same 32 as servers
#               with a local queue (the paper's baseline: least open streams and a queue in the instance)
# A prompt of 32 to 448 words takes 4 ms and 150 us for each of its tokens; two tokens are asked for, the second comes at
# once, so that an open stream is a prompt that waits or is computed. Prompts are unlike each other; with the last load they
# also all begin alike, which makes gateways that go by the prompt's beginning want the same P.
# Needs HAProxy (apt-get install haproxy).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-40}
shift || true
loads=("${@:-}")
[ -n "${loads[0]}" ] || loads=(50 70 80 85 90 95)
[ -x /usr/sbin/haproxy ] || { echo "haproxy is missing: apt-get install haproxy" >&2; exit 1; }
. bench/lib.sh
compile pdserve stub_workers
prefill=32 gateways=4 limit_ms=1000
model=assets/models/stories260K
printf '[gateway]\nttft_limit = "%sms"\n' "$limit_ms" > "$work/config.toml"

start() {
  start_stubs --prefill "$prefill" --decode 2 --prefill-ms 4 --prefill-us-per-token 150 --tokenizer "$model" --step-ms 0 --slots 1
  doors=()
  local i servers=()
  for i in "${direct[@]}"; do servers+=(--upstream "127.0.0.1:$i"); done
  for i in $(seq "$gateways"); do
    if [ "$1" = pdserve ]; then
      start_gateway --config "$work/config.toml"
    else
      mkdir -p "$work/proxy$i"
      rm -f "$work/ready"; mkfifo "$work/ready"
      taskset -c 0 tools/run_proxy.py haproxy --balance leastconn --folder "$work/proxy$i" "${servers[@]}" > "$work/ready" &
      children+=($!)
      read -r -t 10 _ port < "$work/ready"
    fi
    doors+=("$port")
  done
}
# Taken and rejected prompts of each P.
counts() {
  local port
  for port in "${direct[@]}"; do curl -s "http://127.0.0.1:$port/metrics" | awk '{print $2}' | paste -sd' '; done
}
# load NAME RATE ARGS...: at all doors at once.
load() {
  local name=$1 rate=$2 i loaders=()
  shift 2
  counts > "$work/before"
  for i in $(seq "$gateways"); do
    taskset -c "$others" "$bin/pdserve" bench serve "127.0.0.1:${doors[i - 1]}" --quiet --api completions --tokens-per-word "$per_word" \
      --output-tokens 2 --rate "$(python3 -c "print($rate / $gateways)")" --seconds "${seconds}s" --seed "$RANDOM" \
      --records "$work/records.$i" "$@" > /dev/null &
    loaders+=($!)
  done
  wait "${loaders[@]}"
  counts > "$work/after"
  python3 - "$work" "$name" "$limit_ms" << 'PY'
import glob, json, statistics, sys
work, name, limit = sys.argv[1], sys.argv[2], float(sys.argv[3])
records = [json.loads(line) for path in glob.glob(f"{work}/records.*") for line in open(path)]
before, after = ([tuple(map(int, line.split())) for line in open(f"{work}/{when}")] for when in ("before", "after"))
taken = [b[0] - a[0] for a, b in zip(before, after)]
rejected = sum(b[1] - a[1] for a, b in zip(before, after))
first = sorted(r["ttft_ms"] for r in records if r["outcome"] == "completed")
outcomes = {r["outcome"] for r in records}
if not outcomes <= {"completed", "rejected"}:
    sys.exit(f"{name}: {outcomes}")
success = sum(t <= limit for t in first) / len(records)
print(f"{name:22} {len(records):6} requests, in time {success:7.2%}, TTFT mean {statistics.fmean(first):6.1f}, p50 {first[len(first) // 2]:6.1f}, "
      f"p99 {first[int(len(first) * 0.99)]:6.1f} ms; rejections per accepted {rejected / sum(taken):5.2f}; "
      f"prompts of a P {min(taken)} to {max(taken)}, deviation {statistics.pstdev(taken) / statistics.fmean(taken):.1%}", flush=True)
PY
}

header "bench/herding.sh $seconds ${loads[*]}"
# A word is one to three tokens of this small vocabulary: how many tokens a word is, is asked.
start pdserve
"$bin/pdserve" bench serve "127.0.0.1:${doors[0]}" --quiet --api completions --tokens-per-word 1 --concurrency 8 --requests 200 \
  --input-tokens 100 --output-tokens 2 --json "$work/s.json" > /dev/null
per_word=$(python3 -c 'import json, sys
summary = json.load(open(sys.argv[1]))
print(summary["tokens"]["prompt"] / summary["requests"]["completed"] / 100)' "$work/s.json")
capacity=$(python3 -c "print($prefill / (0.004 + 0.00015 * 240))")
printf 'a word is %.2f tokens; %s P take %.0f prompts/s\n' "$per_word" "$prefill" "$capacity"
at() { python3 -c "print($capacity * $1 / 100)"; }
for system in pdserve local; do
  stop
  start "$system"
  for percent in "${loads[@]}"; do
    load "$system $percent %" "$(at "$percent")" --input-tokens 32:448
  done
  # 64 and 1 to 351 tokens: 240 in the mean, too.
  load "$system ${loads[-1]} %, alike" "$(at "${loads[-1]}")" --dataset shared-prefix --prefixes 1 --prefix-tokens 64 --input-tokens 1:351
done
