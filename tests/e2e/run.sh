#!/usr/bin/env bash
# End-to-end tests of one pdserve program: real processes, real HTTP, real clients.
#   tests/e2e/run.sh build/release/pdserve              everything
#   tests/e2e/run.sh build/release/pdserve -k smoke     what pytest's own arguments choose
#   tests/e2e/run.sh build/release/pdserve -k openapi --requests 10000
#                                                       more requests drawn against OpenAI's description
# Makes its Python environment under build/ and the JavaScript client's packages once.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
program=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/build/venv-e2e

# Installs again only when the list has changed; a half-made environment has no stamp.
fresh() { [ -f "$2" ] && cmp -s "$1" "$2"; }
if ! fresh "$here/requirements.txt" "$venv/installed.txt"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi
if ! fresh "$here/clients/package.json" "$here/clients/node_modules/installed.json"; then
  (cd "$here/clients" && npm install --no-audit --no-fund --loglevel=error)
  cp "$here/clients/package.json" "$here/clients/node_modules/installed.json"
fi

exec "$venv/bin/python" -m pytest -c "$here/pytest.ini" --rootdir "$here" "$here" --pdserve "$program" "$@"
