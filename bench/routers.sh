#!/usr/bin/env bash
# The gateway beside the P/D routers of other projects: sglang-router, smg, vllm-router, and Dynamo's frontend. Each has
# stub workers behind it that speak its own protocol, compute nothing and are all equally fast (src/bench; Dynamo has
# mockers of its own), the first core to itself, and the same requests, in turns. CPU time and memory are of the whole
# router process with its children; x: how much more than pdserve, round by round.
#
#   bench/routers.sh [--short] [--lean] [ROUTER ...]
#
#   1. whole answers of 16 tokens at 200 requests/s: each request alone
#   2. the same, 16 at any time, as fast as they are answered
#   3. streams of 16 tokens, each a write of its own, at 50 requests/s
#   4. whole answers whose tokens are 10 ms apart
#
# --short: a few seconds of each, to see that it works. --lean: the routers choose workers in turn and log warnings only,
# instead of what their makers set (affinity to prefixes; two lines per request), which is the least they can cost.
# Installs the routers into build/venv-routers and build/venv-dynamo (1 GB); one that does not start is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

. bench/lib.sh
rounds=5 seconds=8 requests=4000
lean='' short=''
routers=()
for argument in "$@"; do
  case "$argument" in
    --short) rounds=2 seconds=2 requests=320 short=yes ;;
    --lean) lean=yes ;;
    sglang | smg | vllm | dynamo) routers+=("$argument") ;;
    *) sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
[ "${#routers[@]}" -gt 0 ] || routers=(sglang smg vllm dynamo)
model=SmolLM2-135M-Instruct  # a tokenizer of real size, for the two that tokenize
folder=$PWD/models/$model
[ -d "$folder" ] || { echo "models/$model is missing: tools/make_default_model_folder.sh" >&2; exit 1; }

# install VENV ARGS... -- ARGS...: pip install, once for each list.
install() {
  local venv=build/$1 list=() argument
  shift
  [ ! -e "$venv/installed" ] || return 0
  python3 -m venv "$venv"
  for argument in "$@" --; do
    if [ "$argument" != -- ]; then list+=("$argument"); continue; fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${list[@]}" || return 1
    list=()
  done
  touch "$venv/installed"
}
for router in "${routers[@]}"; do
  case "$router" in
    dynamo)
      install venv-dynamo --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1 -- aiohttp==3.14.5 certifi kubernetes==32.0.1 \
        msgspec==0.22.0 prometheus-client==0.26.0 pyzmq==27.3.0 redis==8.1.0 tqdm transformers==5.23.0 zstandard==0.25.0 \
        pydantic==2.13.5 uvloop==0.23.0 ;;
    *) install venv-routers sglang-router==0.3.2 smg==1.13.0 vllm-router==0.1.17 ;;
  esac || { echo "$router could not be installed" >&2; exit 1; }
done

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start_workers MANNER BOOTSTRAP ARGS...: two workers of each kind. Sets `controller`, their port for pdserve's, and
# `workers`, the flags that name them to another router.
start_workers() {
  local manner=$1 bootstrap=$2 name='' number decodes=0
  shift 2
  mkfifo "$work/stubs"
  exec 4<> "$work/stubs"  # both ways: opening one waits for the other
  child taskset -c "$others" "$bin/stub_workers" --manner "$manner" --model "$model" "$@" > "$work/stubs"
  workers=()
  while [ "$decodes" -lt 2 ]; do  # they come last
    read -r -t 10 name number <&4 || { echo "the stubs did not start" >&2; exit 1; }
    case "$name" in
      controller) controller=$number ;;
      prefill) workers+=(--prefill "http://127.0.0.1:$number" ${bootstrap:+"$bootstrap"}) ;;
      decode)
        workers+=(--decode "http://127.0.0.1:$number")
        decodes=$((decodes + 1)) ;;
    esac
  done
  exec 4<&-
  rm "$work/stubs"
}
start_pdserve() {
  mkfifo "$work/ready"
  exec 4<> "$work/ready"
  child taskset -c 0 "$bin/pdserve" gateway --model "$folder" --controller "127.0.0.1:$controller" --port 0 \
    --log error --ready-fd 4
  read -r -t 20 port <&4 || { echo "the gateway did not start" >&2; exit 1; }
  exec 4<&-
  rm "$work/ready"
}

# Each sets `port` and `pid`; the rest of its options are its makers'.
start_router() {
  local at lean_flags=() log=$work/$1.log
  port=$(free_port)
  at=(--host 127.0.0.1 --port "$port" --prometheus-host 127.0.0.1 --prometheus-port "$(free_port)")
  [ -z "$lean" ] || lean_flags=(--policy round_robin --log-level warn)
  case "$1" in
    sglang)
      child taskset -c 0 build/venv-routers/bin/python -m sglang_router.launch_router --pd-disaggregation \
        "${sglang_workers[@]}" "${at[@]}" "${lean_flags[@]}" &> "$log" ;;
    smg)
      child taskset -c 0 build/venv-routers/bin/smg launch --pd-disaggregation "${sglang_workers[@]}" "${at[@]}" \
        "${lean_flags[@]}" &> "$log" ;;
    vllm)
      child taskset -c 0 build/venv-routers/bin/vllm-router --vllm-pd-disaggregation "${vllm_workers[@]}" --kv-connector nixl \
        "${at[@]}" "${lean_flags[@]/%warn/warning}" &> "$log" ;;
    dynamo) start_dynamo "$log" ;;
  esac
}
start_dynamo() {
  local python=build/venv-dynamo/bin/python mode
  local at=(env DYN_DISCOVERY_BACKEND=file "DYN_FILE_KV=$(mktemp -d -p "$work")" DYN_REQUEST_PLANE=tcp DYN_EVENT_PLANE=zmq
    HF_HUB_OFFLINE=1)
  for mode in TCP_RPC HTTP_RPC SYSTEM EVENT_PLANE TCP_RESPONSE_STREAM; do at+=("DYN_${mode}_HOST=127.0.0.1"); done
  [ -z "$lean" ] || at+=(DYN_LOG=warn)
  for mode in prefill decode; do
    child taskset -c "$others" "${at[@]}" "$python" -m dynamo.mocker --model-path "$folder" --model-name "$model" \
      --disaggregation-mode "$mode" --speedup-ratio 100000 &> "$1.$mode"
  done
  child taskset -c 0 "${at[@]}" "$python" -m dynamo.frontend --http-host 127.0.0.1 --http-port "$port" \
    --router-mode round-robin &> "$1"
}

# answers: whether the router at `port` serves a request within a minute.
answers() {
  curl -s -f -o /dev/null --retry 60 --retry-delay 1 --retry-max-time 60 --retry-all-errors -m 10 \
    -H 'content-type: application/json' -d "{\"model\":\"$model\",\"prompt\":\"once\",\"max_tokens\":2}" \
    "http://127.0.0.1:$port/v1/completions"
}

# start ROUTERS -- ARGS...: the gateway and these routers, each with stubs of such a pace. Sets `targets`.
start() {
  local router names=()
  while [ "$1" != -- ]; do names+=("$1"); shift; done
  shift
  stop
  start_workers pdserve '' "$@"
  start_pdserve
  targets=(--target "pdserve=127.0.0.1:$port,$pid")
  start_workers sglang 8998 "$@"
  sglang_workers=("${workers[@]}")
  start_workers vllm '' "$@"
  vllm_workers=("${workers[@]}")
  for router in "${names[@]}"; do
    start_router "$router"
    if answers; then
      targets+=(--target "$router=127.0.0.1:$port,$pid")
    else
      echo "$router is left out, it does not answer: $(tail -n 1 "$work/$router.log" | cut -c1-200)"
    fi
  done
}
load() {
  taskset -c "$others" "$bin/load_client" --rounds "$rounds" --per-request --model "$model" --words dynamo --tokens 16 \
    "${targets[@]}" "$@" &
  wait $! || true  # it has said which requests failed
}

compile pdserve stub_workers load_client
header "bench/routers.sh $*"
echo "figures: median [least, most] of $rounds rounds; prompts of 600 bytes; ${lean:+routers choose in turn and log warnings only}"

start "${routers[@]}" -- --step-ms 0
say "1. whole answers at 200 requests/s"
load --whole --rate 200 --seconds "$seconds"
say "2. whole answers, 16 at any time"
load --whole --streams 16 --requests "$requests"

start "${routers[@]}" -- --step-ms 0 --burst 1
say "3. streams at 50 requests/s, each token a write of its own"
load --rate 50 --seconds "$seconds"

start $(printf '%s\n' "${routers[@]}" | grep -v dynamo) -- --step-ms 10
say "4. whole answers at 100 requests/s, tokens 10 ms apart (Dynamo's mockers have a pace of their own)"
load --whole --rate 100 --seconds "$seconds"
