#!/usr/bin/env bash
# clang-format over all C++ sources; --check changes nothing and fails on a difference.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(git ls-files --cached --others --exclude-standard 'src/*.h' 'src/*.cc' 'tests/*.h' 'tests/*.cc' 'bench/*.cc')
if [ "${1:-}" = --check ]; then
  clang-format-19 --dry-run -Werror "${files[@]}"
else
  clang-format-19 -i "${files[@]}"
fi
