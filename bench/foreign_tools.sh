#!/usr/bin/env bash
# Load tools of others, unchanged, on a whole cluster with a real model: do they run, and is no request of theirs an error?
#
#   bench/foreign_tools.sh [SECONDS]     of each tool, default 60
#
# Installs aiperf (1.2 GB, into build/venv-aiperf) and guidellm (into build/venv-guidellm) where they are missing; needs make model.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
. bench/lib.sh
compile pdserve
tokenizer=$PWD/models/SmolLM2-135M-Instruct
[ -e "$tokenizer/tokenizer.json" ] || { echo "$tokenizer is missing: tools/fetch_test_data.sh" >&2; exit 1; }

# tool NAME PACKAGE: into a virtual environment of its own.
tool() {
  [ -x "build/venv-$1/bin/$1" ] && return
  python3 -m venv "build/venv-$1"
  "build/venv-$1/bin/pip" install --quiet --disable-pip-version-check "$2"
}
tool aiperf aiperf==0.13.0
tool guidellm guidellm==0.8.1

child "$bin/pdserve" up --model models/SmolLM2-135M-Instruct.Q4_1.gguf --prefill 2 --decode 2 --port 0 --no-question --state "$work/state" \
  > "$work/up.log" 2>&1
timeout 120 bash -c "until [ -s '$work/state' ]; do sleep 0.1; done" || { cat "$work/up.log"; exit 1; }
gateway=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["gateway"])' "$work/state")
url=http://${gateway#http://}
model=$(curl -s "$url/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
header "bench/foreign_tools.sh $*"

child build/venv-aiperf/bin/aiperf profile --model "$model" --url "$url" --endpoint-type chat --streaming --tokenizer "$tokenizer" \
  --concurrency 4 --benchmark-duration "$seconds" --synthetic-input-tokens-mean 64 --output-tokens-mean 16 --artifact-dir "$work/aiperf" \
  --ui none > "$work/aiperf.log" 2>&1
wait "$pid" || { tail -30 "$work/aiperf.log"; exit 1; }
mkdir "$work/guidellm"
child build/venv-guidellm/bin/guidellm run --disable-console --backend "kind=openai_http,target=$url,model=$model" \
  --tokenizer "kind=hf_auto,model=$tokenizer" --profile kind=concurrent,streams=4 --constraint "kind=max_duration,seconds=$seconds" \
  --data kind=synthetic_text,prompt_tokens=64,output_tokens=16 --output "kind=json,path=$work/guidellm/out.json" > "$work/guidellm.log" 2>&1
wait "$pid" || { tail -30 "$work/guidellm.log"; exit 1; }
python3 - "$work" << 'PY'
import glob, json, sys
work = sys.argv[1]
(path,) = glob.glob(f"{work}/aiperf/**/*aiperf.json", recursive=True)
result = json.load(open(path))
errors = result.get("error_summary") or []
print(f"aiperf: {result['request_count']['avg']:.0f} requests, errors: {errors or 'none'}")
(path,) = glob.glob(f"{work}/guidellm/**/*.json", recursive=True)
failed = 0
for benchmark in json.load(open(path))["benchmarks"]:
    totals = benchmark["metrics"]["request_totals"]
    print(f"guidellm: {totals}")
    failed += totals["errored"]
sys.exit(1 if errors or failed else 0)
PY
