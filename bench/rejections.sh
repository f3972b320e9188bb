#!/usr/bin/env bash
# What it costs a prefill instance to reject a request it has no slot for: the time until the gateway has read the rejection,
# and CPU time, by length of the prompt, which travels with the request. The limit is 1 ms.
#   bench/rejections.sh [MODEL]     a model of long context, by default models/SmolLM2-135M-Instruct.Q4_1.gguf (make model)
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-models/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -e "$model" ] || { echo "$model is missing: make model" >&2; exit 1; }
. bench/lib.sh
compile pdserve rejection_cost
printf '[prefill]\nslots = 2\n' > "$work/config.toml"
child "$bin/pdserve" up --config "$work/config.toml" --model "$model" --prefill 1 --decode 1 --port 0 --no-question \
  --state "$work/state" > "$work/log" 2>&1
timeout 120 bash -c "until [ -s '$work/state' ]; do sleep 0.1; done" || { cat "$work/log"; exit 1; }
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/state" "$1"; }
controller=$(field controller) secret=$(field directory)/secret
instance=$(curl -s -H "authorization: Bearer $(cat "$secret")" "http://$controller/cluster/v1/status" |
  python3 -c 'import json, sys; print(next(i["pid"] for i in json.load(sys.stdin)["instances"] if i["role"] == "prefill"))')
header "bench/rejections.sh $*"
for tokens in 100 1000 8000; do
  "$bin/rejection_cost" --controller "$controller" --secret-file "$secret" --instance "$instance" --tokens "$tokens"
done
