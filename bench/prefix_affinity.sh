#!/usr/bin/env bash
# Whether a conversation's next turn finds the instance that has its KV: the share of prompt tokens that came from a prefix
# cache (usage.prompt_tokens_details.cached_tokens), on conversations that carry all that was said.
#
#   bench/prefix_affinity.sh [ROUNDS]
#
#   one P      everything is in one cache: what can be had
#   four P     the gateway has to find the right one
#   churn      of the four one is killed every second, and a new one, with an empty cache, takes its place
#   blind      four P behind nginx, whole instances that it takes in turn: no affinity
# Needs nginx (apt-get install nginx-light).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
command -v nginx > /dev/null || { echo "nginx is missing: apt-get install nginx-light" >&2; exit 1; }
. bench/lib.sh
compile pdserve
pdserve=$bin/pdserve
field() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda at, key: at[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"; }

# up NAME ARGS...: a cluster; its state is NAME.json.
up() {
  local name=$1
  shift
  "$pdserve" up --model stories260K --port 0 --no-question --log warn --state "$work/$name.json" "$@" > "$work/$name.log" 2>&1 &
  children+=($!)
  timeout 30 bash -c "until [ -s '$work/$name.json' ]; do sleep 0.05; done" || { cat "$work/$name.log"; exit 1; }
}
# Kills a prefill instance every second.
churn() {
  local state=$work/$1.json pid
  while sleep 1; do
    pid=$(curl -s -H "authorization: Bearer $(cat "$(field "$state" directory)/secret")" \
      "http://$(field "$state" controller)/cluster/v1/status" | python3 -c 'import json, random, sys
living = [i["pid"] for i in json.load(sys.stdin)["instances"] if i["role"] == "prefill" and i["state"] == "serving"]
print(random.choice(living) if living else "")')
    [ -z "$pid" ] || kill -9 "$pid"
  done
}
# ask URL SEED: the share of cached prompt tokens and the TTFT's median.
ask() {
  "$pdserve" bench serve "$1" --quiet --api completions --dataset multi-turn --turns 3:4 --prefix-tokens 0 --input-tokens 72:96 --output-tokens 16 \
    --tokens-per-word 2 --concurrency 12 --requests 150 --seed "$2" --json "$work/s.json" > /dev/null
  python3 -c 'import json, sys
s = json.load(open(sys.argv[1]))
print(s["tokens"]["cached"] / s["tokens"]["prompt"], s["ttft_ms"]["p50"], s["requests"]["failed"])' "$work/s.json"
}

header "bench/prefix_affinity.sh $*"
for round in $(seq "$rounds"); do
  up one --prefill 1 --decode 1
  echo "one $(ask "$(field "$work/one.json" gateway)" "$round")" >> "$work/all"
  stop; rm "$work/one.json"
  up four --prefill 4 --decode 1
  echo "four $(ask "$(field "$work/four.json" gateway)" "$round")" >> "$work/all"
  churn four 2> /dev/null &
  churner=$!
  children+=("$churner")
  echo "churn $(ask "$(field "$work/four.json" gateway)" "$((round + 100))")" >> "$work/all"
  stop; rm "$work/four.json"
  servers=()
  for i in 1 2 3 4; do
    up "whole$i" --both 1
    url=$(field "$work/whole$i.json" gateway)
    servers+=(--upstream "${url#http://}")
  done
  mkdir -p "$work/nginx"
  mkfifo "$work/ready"
  tools/run_proxy.py nginx --folder "$work/nginx" "${servers[@]}" > "$work/ready" &
  children+=($!)
  read -r -t 10 _ port < "$work/ready"
  echo "blind $(ask "http://127.0.0.1:$port" "$round")" >> "$work/all"
  stop; rm -rf "$work"/whole*.json "$work/nginx" "$work/ready"
done
python3 - "$work/all" << 'PY'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
for name in ("one", "four", "churn", "blind"):
    shares = [float(row[1]) for row in rows if row[0] == name]
    times = [float(row[2]) for row in rows if row[0] == name]
    failed = sum(int(row[3]) for row in rows if row[0] == name)
    print(f"{name:6} cached {statistics.median(shares):.1%} [{min(shares):.1%}, {max(shares):.1%}] of prompt tokens, "
          f"TTFT p50 {statistics.median(times):.2f} ms, {failed} failed")
PY
