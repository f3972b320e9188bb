#!/usr/bin/env bash
# clang-tidy 19 over the sources, two files at a time; .clang-tidy says what it looks for.
#   tools/clang_tidy.sh               every source of src (some ten minutes on two cores)
#   tools/clang_tidy.sh FILE...       only these
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
cmake --preset fuzz > build/configure-fuzz.log || { cat build/configure-fuzz.log; exit 1; }
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(git ls-files 'src/*.cc' | grep -v '_test\.cc$')
printf '%s\n' "${files[@]}" |
  xargs -P "$(nproc)" -n 1 clang-tidy-19 -p build/fuzz --quiet 2> >(grep -v 'warnings generated' >&2)
