#!/usr/bin/env bash
# The default model as a Hugging Face folder, made from its GGUF file by tools/gguf_to_hf.py: models/SmolLM2-135M-Instruct, 270 MB.
# For tests that compare the two forms; made once. numpy comes with pip into an environment under build/.
set -euo pipefail
cd "$(dirname "$0")/.."
file=models/SmolLM2-135M-Instruct.Q4_1.gguf
folder=models/SmolLM2-135M-Instruct
[ -f "$folder/model.safetensors" ] && exit 0
[ -f "$file" ] || { echo "$file is not there; tools/fetch_default_model.sh fetches it" >&2; exit 1; }
venv=build/venv-numpy
"$venv/bin/python" -c 'import numpy' 2>/dev/null || {
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.3.5 ||
    "$venv/bin/pip" install --quiet --disable-pip-version-check numpy
}
work=$(mktemp -d models/folder-XXXXXX)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" tools/gguf_to_hf.py "$file" "$work/new"
chmod 755 "$work/new"
mv -T "$work/new" "$folder"
echo "the default model as a folder is at $folder"
