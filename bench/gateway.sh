#!/usr/bin/env bash
# What the gateway costs, with stub workers behind it (src/bench): they speak the real P/D protocol
# and compute nothing. The gateway has one core to itself; stubs and client share the others.
#
#   bench/gateway.sh [--short]
#
#   1. TTFT at 500 requests/s, straight to a stub and through the gateway, in turn; the limit is
#      what the stub alone takes. A time counts from when the request was due.
#   2. Tokens relayed, one write each, as decode steps send them.
#   3. Tokens relayed from stubs that never pause: what one core can carry.
#      The limit of 2 and 3 is the bare relay of src/net, which parses no frame and renders no JSON.
#
# --short: a few seconds of each, to see that it works; its figures mean little.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 seconds=20 paced=512 free=3072
case "${1:-}" in
  --short) rounds=2 seconds=2 paced=256 free=512 ;;
  '') ;;
  *) echo "usage: bench/gateway.sh [--short]" >&2; exit 2 ;;
esac

mkdir -p build
cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
cmake --build --preset release --target pdserve stub_workers load_client net_bench \
  > build/gateway_bench.log || { cat build/gateway_bench.log; exit 1; }

bin=build/release
cores=$(nproc)
others=$([ "$cores" -gt 1 ] && echo "1-$((cores - 1))" || echo 0)
work=$(mktemp -d)
stubs='' gateway='' client=''

stop() {
  for process in $client $gateway $stubs; do
    kill "$process" 2> /dev/null || true
    wait "$process" 2> /dev/null || true
  done
  stubs='' gateway='' client=''
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start ARGS...: stubs with these arguments, and a gateway in front of them. Sets `direct` (the port
# of a stub), `port` and `gateway` (the gateway's).
start() {
  stop
  mkfifo "$work/stubs" "$work/ready"
  taskset -c "$others" "$bin/stub_workers" "$@" > "$work/stubs" &
  stubs=$!
  local name number controller=''
  direct=''
  while read -r -t 10 name number; do
    case "$name" in
      controller) controller=$number ;;
      prefill) direct=$number ;;
    esac
  done < "$work/stubs"
  [ -n "$controller" ] && [ -n "$direct" ] || { echo "the stubs did not start" >&2; exit 1; }
  taskset -c 0 "$bin/pdserve" gateway --model stories260K --controller "127.0.0.1:$controller" \
    --port 0 --log warn --ready-fd 3 3> "$work/ready" &
  gateway=$!
  read -r -t 20 port < "$work/ready" || { echo "the gateway did not start" >&2; exit 1; }
  rm "$work/stubs" "$work/ready"
}

# load ARGS...: rounds of the same load on a stub and on the gateway. Waited for and not in the
# foreground, where a signal to this script would have to wait too.
load() {
  taskset -c "$others" "$bin/load_client" --rounds "$rounds" \
    --target "direct=127.0.0.1:$direct" --target "gateway=127.0.0.1:$port,$gateway" "$@" &
  client=$!
  wait "$client"
  client=''
}

say() { printf '\n%s (load average %s)\n' "$1" "$(cut -d' ' -f1-3 /proc/loadavg)"; }

echo "machine: $(lscpu | sed -n 's/^Model name: *//p'), $cores cores"
echo "commit:  $(git rev-parse --short HEAD)"
echo "command: bench/gateway.sh $*"
echo "figures: median [least, most] of $rounds rounds of $seconds s (1) or as long as it takes (2, 3)"

say "1. TTFT at 500 requests/s (Poisson), prompts of 600 bytes, answers of 16 tokens 10 ms apart"
start --prefill-ms 0 --step-ms 10
load --rate 500 --seconds "$seconds" --tokens 16 --prompt-bytes 600

say "2. 256 streams of 400 tokens, each token a write of its own, steps of 10 ms"
start --prefill-ms 0 --step-ms 10
load --streams 256 --requests "$paced" --tokens 400 --prompt-bytes 60

say "3. 256 streams of 400 tokens from stubs that never pause"
start --prefill-ms 0 --step-ms 0
load --streams 256 --requests "$free" --tokens 400 --prompt-bytes 60
stop

say "limit of 2: bare relay of src/net, one chunk per write (items_per_second: of one full core)"
"$bin/net_bench" --benchmark_filter=bm_chunks 2> /dev/null | grep -v '^--\|^Benchmark'
