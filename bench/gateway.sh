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

. bench/lib.sh
compile pdserve stub_workers load_client net_bench

# start ARGS...: stubs with these arguments, and a gateway in front of them.
start() {
  stop
  start_stubs "$@"
  start_gateway
}

# load ARGS...: rounds of the same load on a stub and on the gateway. Waited for and not in the
# foreground, where a signal to this script would have to wait too.
load() {
  child taskset -c "$others" "$bin/load_client" --rounds "$rounds" \
    --target "direct=127.0.0.1:${direct[0]}" --target "gateway=127.0.0.1:$port,$gateway" "$@"
  wait "$pid"
}

header "bench/gateway.sh $*"
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
