#!/usr/bin/env bash
# Hours at half load, every prompt another one: does the memory of any process grow?
#
#   bench/endurance.sh [SECONDS]     of the load, default 3600
#
# Two clusters side by side: stub workers behind a gateway of its own, which has half of what their places can take, and a real
# one, every one of whose processes is watched. Private memory is read every 10 s; the slope is that of the line through the
# second half. What a gateway remembers of prompts (131,072 blocks of 64 tokens) is full after some 80,000 of these.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-3600}
. bench/lib.sh
compile pdserve stub_workers
rate=30  # 10^5 prompts within an hour
# 2 P that hold 3 prompts for 100 ms each: 60 requests/s.
start_stubs --prefill 2 --decode 2 --prefill-ms 100 --step-ms 10 --slots 3 --places 256
start_gateway
stub_port=$port
child "$bin/pdserve" up --model stories260K --prefill 2 --decode 2 --port 0 --no-question --state "$work/state" > "$work/log" 2>&1
timeout 60 bash -c "until [ -s '$work/state' ]; do sleep 0.1; done" || { cat "$work/log"; exit 1; }
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/state" "$1"; }
up=$pid

load() {
  local name=$1 address=$2
  shift 2
  "$bin/pdserve" bench serve "$address" --quiet --api completions --tokens-per-word 1.6 --input-tokens 20:200 --output-tokens 16:64 \
    --json "$work/$name.json" "$@" > "$work/$name.log" 2>&1
}
header "bench/endurance.sh $*"
load peak "$(field gateway)" --concurrency 64 --seconds 10s
child load stubs "127.0.0.1:$stub_port" --rate $rate --seconds "${seconds}s" --seed 1
first=$pid
child load real "$(field gateway)" --rate $rate --seconds "${seconds}s" --seed 2
second=$pid
python3 - "$gateway" "$up" "$seconds" "$first" << 'PY'
import os, subprocess, sys, time
stub_gateway, up, seconds, load = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

def children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid] + [below for child in found for below in children(int(child))]

def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))

def kind(pid):
    return " ".join(open(f"/proc/{pid}/cmdline").read().split("\0")[1:2])

watched = {stub_gateway: "gateway before stubs"} | {pid: f"up: {kind(pid)} {pid}" for pid in children(up)}
samples = {pid: [] for pid in watched}
begin = time.monotonic()
while time.monotonic() - begin < seconds and os.path.exists(f"/proc/{load}"):
    for pid in watched:
        samples[pid].append((time.monotonic() - begin, private_kib(pid)))
    time.sleep(min(10, seconds / 20))
for pid, name in watched.items():
    late = samples[pid][len(samples[pid]) // 2:]
    mean_t = sum(t for t, _ in late) / len(late)
    mean_m = sum(m for _, m in late) / len(late)
    slope = sum((t - mean_t) * (m - mean_m) for t, m in late) / sum((t - mean_t) ** 2 for t, _ in late)
    values = [m for _, m in samples[pid]]
    print(f"{name}: {values[0]} KiB at first, {late[0][1]} KiB half-way, {values[-1]} KiB at the end; "
          f"slope of the second half {slope * 3600:+.0f} KiB/h")
PY
wait "$first" "$second" || { cat "$work"/*.log; exit 1; }
python3 - "$work" << 'PY'
import json, sys
for name in ("peak", "stubs", "real"):
    summary = json.load(open(f"{sys.argv[1]}/{name}.json"))
    print(name, summary["requests"], "requests,", {k: v for k, v in summary.items() if k in ("outcomes", "per_second")})
PY
