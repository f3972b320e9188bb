#!/usr/bin/env bash
# Whether `pdserve bench serve` measures right, beside tools of others, on a stub worker whose pace is known:
#   1. requests/s of a closed loop beside wrk's, whole answers
#   2. TTFT and requests/s of a streaming load beside aiperf's (installed into build/venv-aiperf: 1.2 GB)
#
#   bench/load_tool.sh [--wrk-only]
#
# Needs wrk (apt-get install wrk). Tools take turns, so that what changes on the machine counts for both.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5
with_aiperf=yes
case "${1:-}" in
  --wrk-only) with_aiperf='' ;;
  '') ;;
  *) sed -n '2,9s/^# //p' "$0" >&2; exit 2 ;;
esac
command -v wrk > /dev/null || { echo "wrk is missing: apt-get install wrk" >&2; exit 1; }

. bench/lib.sh
compile pdserve stub_workers
if [ -n "$with_aiperf" ] && [ ! -x build/venv-aiperf/bin/aiperf ]; then
  python3 -m venv build/venv-aiperf
  build/venv-aiperf/bin/pip install --quiet --disable-pip-version-check aiperf==0.13.0
fi

# start ARGS...: a stub with these arguments. Sets `port`.
start() {
  stop
  start_stubs --prefill 1 --decode 1 "$@"
  port=${direct[0]}
}
json() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda at, key: at[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"; }
# ratios FILE: of lines "ours theirs", each round's ratio: median [least, most].
ratios() { python3 -c 'import statistics, sys
rows = [tuple(map(float, line.split())) for line in open(sys.argv[1])]
of = [ours / theirs for ours, theirs in rows]
ours, theirs = (statistics.median(column) for column in zip(*rows))
print(f"ours {ours:.2f}, theirs {theirs:.2f}, ratio {statistics.median(of):.3f} [{min(of):.3f}, {max(of):.3f}]")' "$1"; }

header "bench/load_tool.sh $*"

# An answer is ready 20 ms after its request: 64 at once are 3,200 requests/s and what the tools add.
start --prefill-ms 20 --step-ms 0
model=$(curl -s "http://127.0.0.1:$port/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
cat > "$work/post.lua" <<LUA
wrk.method = "POST"
wrk.body = '{"model":"$model","prompt":" the of and a to in is you","max_tokens":1}'
wrk.headers["Content-Type"] = "application/json"
LUA
for _ in $(seq "$rounds"); do
  theirs=$(wrk -t1 -c64 -d5s -s "$work/post.lua" "http://127.0.0.1:$port/v1/completions" | awk '/Requests\/sec/ {print $2}')
  build/release/pdserve bench serve "127.0.0.1:$port" --api completions --whole --quiet --tokens-per-word 1 --concurrency 64 \
    --seconds 5s --input-tokens 8 --output-tokens 1 --json "$work/s.json" > /dev/null
  echo "$(json "$work/s.json" per_second requests) $theirs" >> "$work/wrk"
done
echo "requests/s, 64 at once, 20 ms each, beside wrk: $(ratios "$work/wrk")"
[ -n "$with_aiperf" ] || exit 0

# Both clients take time to see a token, which weighs the more the shorter the TTFT and the more streams there are.
tokenizer=$PWD/models/SmolLM2-135M-Instruct
for pace in '30 10 16 480' '100 20 16 480' '400 20 8 160'; do
  read -r prefill step streams requests <<< "$pace"
  start --prefill-ms "$prefill" --step-ms "$step"
  rm -f "$work/ttft" "$work/rate"
  for round in $(seq "$rounds"); do
    rm -rf "$work/aiperf"
    build/venv-aiperf/bin/aiperf profile --model "$model" --url "http://127.0.0.1:$port" --endpoint-type chat --streaming \
      --tokenizer "$tokenizer" --concurrency "$streams" --request-count "$requests" --synthetic-input-tokens-mean 128 --output-tokens-mean 32 \
      --extra-inputs ignore_eos:true --artifact-dir "$work/aiperf" --ui none > "$work/aiperf.log" 2>&1 ||
      { tail -20 "$work/aiperf.log"; exit 1; }
    result=$(find "$work/aiperf" -name '*aiperf.json' | head -1)
    build/release/pdserve bench serve "127.0.0.1:$port" --api chat --quiet --tokens-per-word 1 --concurrency "$streams" --requests "$requests" \
      --input-tokens 128 --output-tokens 32 --json "$work/s.json" > /dev/null
    echo "$(json "$work/s.json" ttft_ms p50) $(json "$result" time_to_first_token p50)" >> "$work/ttft"
    echo "$(json "$work/s.json" per_second requests) $(json "$result" request_throughput avg)" >> "$work/rate"
  done
  echo "first token after $prefill ms, then one each $step ms, $streams streams at once, beside aiperf:"
  echo "  TTFT p50 in ms: $(ratios "$work/ttft")"
  echo "  requests/s:     $(ratios "$work/rate")"
done
