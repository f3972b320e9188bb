# What the benchmarks of the gateway share; sourced. One process has the first core to itself, everything else has the others.
# Sets: bin, work (removed at the end), cores, others. Children that `child` started end with the script.
bin=build/release
cores=$(nproc)
others=$([ "$cores" -gt 1 ] && echo "1-$((cores - 1))" || echo 0)
work=$(mktemp -d)
children=()

# compile TARGET...
compile() {
  mkdir -p build
  cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
  cmake --build --preset release --target "$@" > build/bench_build.log || { cat build/bench_build.log; exit 1; }
}

# child COMMAND...: in the background, until stop. Sets `pid`.
child() {
  "$@" &
  pid=$!
  children+=("$pid")
}
stop() {
  local process
  for process in "${children[@]}"; do kill "$process" 2> /dev/null || true; done
  for process in "${children[@]}"; do wait "$process" 2> /dev/null || true; done
  children=()
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# first_line COMMAND...: starts it and waits for its first line on descriptor 3, which is put in `line`. Sets `pid`.
first_line() {
  local pipe=$work/pipe.$RANDOM
  mkfifo "$pipe"
  "$@" 3> "$pipe" &
  pid=$!
  children+=("$pid")
  read -r -t 20 line < "$pipe" || { echo "it did not start: $*" >&2; exit 1; }
  rm "$pipe"
}

# start_stubs ARGS...: sets `controller` (its port) and `direct` (ports of prefill workers, which speak the OpenAI API, too).
start_stubs() {
  local name number
  mkfifo "$work/stubs"
  taskset -c "$others" "$bin/stub_workers" "$@" > "$work/stubs" &
  children+=($!)
  controller='' direct=()
  while read -r -t 10 name number; do
    case "$name" in
      controller) controller=$number ;;
      prefill) direct+=("$number") ;;
    esac
  done < "$work/stubs"
  rm "$work/stubs"
  [ -n "$controller" ] && [ "${#direct[@]}" -gt 0 ] || { echo "the stubs did not start" >&2; exit 1; }
}

# start_gateway ARGS...: on the first core, in front of the stubs; of `model`, if set. Sets `port` and `gateway` (its process).
start_gateway() {
  first_line taskset -c 0 "$bin/pdserve" gateway --model "${model:-stories260K}" --controller "127.0.0.1:$controller" --port 0 \
    --log warn --ready-fd 3 "$@"
  port=$line gateway=$pid
}

say() { printf '\n%s (load average %s)\n' "$1" "$(cut -d' ' -f1-3 /proc/loadavg)"; }
header() {
  echo "machine: $(lscpu | sed -n 's/^Model name: *//p'), $cores cores"
  echo "commit:  $(git rev-parse --short HEAD)"
  echo "command: $*"
}
