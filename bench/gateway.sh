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
#   4. TTFT as in 1 for prompts of 4,000 tokens of the default model, an eighth of what eight cores are to take; the limit is
#      2 ms at p50 and 10 ms at p99.
#   5. Token to token with thousands of streams open; the limit is 0.2 ms a token.
#   6. What /health takes while clients that never pause keep the gateway's core busy; the limit is 100 ms.
#      The limit of 2 and 3 is the bare relay of src/net, which parses no frame and renders no JSON.
#
# --short: a few seconds of each, to see that it works; its figures mean little.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 seconds=20 paced=512 free=3072 open=6000 probes=1000
case "${1:-}" in
  --short) rounds=2 seconds=2 paced=256 free=512 open=1000 probes=100 ;;
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

say "4. TTFT at 125 requests/s (Poisson), prompts of 20,000 bytes, 4,000 tokens and more of SmolLM2, answers of 2 tokens"
tools/fetch_default_model.sh > "$work/model.log" || { cat "$work/model.log"; exit 1; }
model=models/SmolLM2-135M-Instruct.Q4_1.gguf start --prefill-ms 0 --step-ms 10
load --rate 125 --seconds "$seconds" --tokens 2 --prompt-bytes 20000

say "5. $open streams at once: $((open / 10)) a second (Poisson) of 20 tokens 500 ms apart"
ulimit -n $((2 * open + 2000)) 2> /dev/null || ulimit -n "$(ulimit -Hn)"
start --prefill-ms 0 --step-ms 500 --slots "$((2 * open))" --places "$((2 * open))"
load --rate "$((open / 10))" --seconds "$seconds" --tokens 20 --prompt-bytes 60

say "6. $probes times /health while 256 clients ask for whole answers to prompts of 8,000 bytes without a pause"
model=models/SmolLM2-135M-Instruct.Q4_1.gguf start --prefill-ms 0 --step-ms 0 --burst 16
child taskset -c "$others" "$bin/load_client" --rounds 1 --target "gateway=127.0.0.1:$port,$gateway" --per-request --whole \
  --streams 256 --requests 1000000 --tokens 16 --prompt-bytes 8000 > "$work/busy.log"
taskset -c "$others" python3 - "$port" "$gateway" "$probes" << 'PY'
import http.client, os, sys, time
port, process, probes = (int(word) for word in sys.argv[1:])
def cpu():
    fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
time.sleep(1)
begun, used, took = time.monotonic(), cpu(), []
for _ in range(probes):
    time.sleep(0.01)
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
    took.append(1000 * (time.monotonic() - begin))
took.sort()
busy = (cpu() - used) / (time.monotonic() - begun)
print(f"/health: p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms, at most {took[-1]:.1f} ms;"
      f" the gateway's core was {busy:.0%} busy")
PY
stop

say "limit of 2: bare relay of src/net, one chunk per write (items_per_second: of one full core)"
"$bin/net_bench" --benchmark_filter=bm_chunks 2> /dev/null | grep -v '^--\|^Benchmark'
