#!/usr/bin/env bash
# The gateway beside nginx and HAProxy as plain proxies for streams, each on one core, in turn, over the same stub workers with
# the same load. The proxies pass on what an OpenAI worker says; the gateway takes tokens from P and D and writes the events.
#
#   bench/proxies.sh [--short]
#
#   1. CPU time for each token of a stream, tokens 10 ms apart, each a write of its own
#   2. CPU time for each request answered whole, 16 tokens
#   3. memory for each idle open stream
# Every answer's tokens are numbered and checked by the client: missing, doubled and swapped ones are failures.
# Needs nginx and HAProxy (apt-get install nginx-light haproxy).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=5 streams=512 whole=20000 idle=9000
case "${1:-}" in
  --short) rounds=2 streams=256 whole=2000 idle=1000 ;;
  '') ;;
  *) sed -n '2,11s/^# //p' "$0" >&2; exit 2 ;;
esac
. bench/lib.sh
PATH=$PATH:/usr/sbin
for name in nginx haproxy; do command -v $name > /dev/null || { echo "$name is missing: apt-get install nginx-light haproxy" >&2; exit 1; }; done
compile pdserve stub_workers load_client
# A proxy needs two descriptors for each stream; the gateway one, and keeps an eighth of all for instances.
ulimit -n $((2 * idle + 2000)) 2> /dev/null || ulimit -n "$(ulimit -Hn)"
[ $((2 * idle + 1000)) -le "$(ulimit -n)" ] || idle=$((($(ulimit -n) - 1000) / 2))

# start_proxy KIND: sets `port` and `pid`, of the process that works.
start_proxy() {
  mkdir -p "$work/$1"
  mkfifo "$work/$1/ready"
  taskset -c 0 tools/run_proxy.py "$1" --folder "$work/$1" "${upstreams[@]}" > "$work/$1/ready" &
  pid=$!
  children+=("$pid")
  read -r -t 10 _ port < "$work/$1/ready"
  rm "$work/$1/ready"
  # nginx's master only watches its worker.
  [ "$1" != nginx ] || pid=$(timeout 5 bash -c "until pgrep -P $pid; do sleep 0.02; done")
}
# start STUBS...: all of them in front of the same stubs; sets `targets`.
start() {
  stop
  rm -rf "$work"/nginx "$work"/haproxy
  start_stubs "$@"
  upstreams=()
  for number in "${direct[@]}"; do upstreams+=(--upstream "127.0.0.1:$number"); done
  start_gateway
  targets=(--target "gateway=127.0.0.1:$port,$gateway")
  for kind in nginx haproxy; do
    start_proxy $kind
    targets+=(--target "$kind=127.0.0.1:$port,$pid")
  done
}
load() {
  child taskset -c "$others" "$bin/load_client" --rounds "$rounds" "${targets[@]}" --per-request "$@"
  wait "$pid"
}

header "bench/proxies.sh $*"
say "1. 128 streams of 400 tokens, each token a write of its own, steps of 10 ms: a request is 400 tokens"
start --prefill-ms 0 --step-ms 10
load --streams 128 --requests "$streams" --tokens 400 --prompt-bytes 60
say "2. whole answers of 16 tokens, 32 at once"
start --prefill-ms 0 --step-ms 0 --burst 16
load --streams 32 --requests "$whole" --tokens 16 --prompt-bytes 600 --whole

# Private and shared memory of a process, in KiB.
memory() { awk '/^Pss:/ {print $2}' "/proc/$1/smaps_rollup"; }
say "3. memory for each of $idle streams that have their first token and wait for the next"
start --prefill-ms 0 --step-ms 600000 --decode 4  # a stub holds 4,096 streams
for target in "${targets[@]}"; do
  [ "$target" != --target ] || continue
  name=${target%%=*} address=${target#*=} process=${target##*,}
  before=$(memory "$process")
  coproc holder { taskset -c "$others" bench/open_streams.py "${address%,*}" "$idle"; }
  read -r -t 120 line <&"${holder[0]}" && [ "$line" = open ] || { echo "$name did not hold $idle streams" >&2; exit 1; }
  after=$(memory "$process")
  exec {holder[1]}>&-
  wait "$holder_PID"
  echo "$name $(((after - before) * 1024 / idle)) bytes each ($before KiB before, $after KiB with them)"
done
