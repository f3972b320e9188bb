#!/usr/bin/env bash
# Builds the fuzzers with clang 19 and runs each for SECONDS (default 60) from its corpus under tests/fuzz/corpus.
#   tools/fuzz.sh [--keep] [SECONDS [NAME...]]
# New inputs go to build/fuzz/corpus; a crash is left as build/fuzz/NAME-*. A dictionary is tests/fuzz/NAME.dict.
# --keep: then what adds coverage goes to tests/fuzz/corpus/NAME, to be committed; see tests/fuzz/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
keep=no
[ "${1:-}" != --keep ] || { keep=yes; shift; }
seconds=${1:-60}
shift || true
mkdir -p build
cmake --preset fuzz > build/configure-fuzz.log || { cat build/configure-fuzz.log; exit 1; }
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  mapfile -t names < <(git ls-files 'src/*_fuzz.cc' 'tests/*_fuzz.cc' | xargs -n1 basename | sed 's/\.cc$//' | sort)
fi
cmake --build --preset fuzz --target "${names[@]}"
run_one() {
  local name=$1 dictionary=tests/fuzz/$1.dict
  mkdir -p "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
  if ! build/fuzz/"$name" -max_total_time="$2" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -print_final_stats=0 \
      $([ ! -f "$dictionary" ] || echo "-dict=$dictionary") \
      -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" > "build/fuzz/$name.log" 2>&1; then
    tail -40 "build/fuzz/$name.log"
    echo "fuzz: $name failed; the input is build/fuzz/$name-*"
    return 1
  fi
  echo "fuzz: $name: $(grep -o 'Done [0-9]* runs' "build/fuzz/$name.log" || echo done)"
}
# What is there stays, and a small set that reaches all other branches (how often is not asked) comes to it: up to 300
# files and 400 kB with what is there, the longest first, which reach most.
keep_new() {
  local name=$1 kept=tests/fuzz/corpus/$1 merged=build/fuzz/merged/$1 bytes files size file
  rm -rf "$merged"
  mkdir -p "$merged"
  cp -r "$kept/." "$merged"
  build/fuzz/"$name" -set_cover_merge=1 -use_counters=0 -max_len=2048 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="build/fuzz/$name-" \
    "$merged" "build/fuzz/corpus/$name" > "build/fuzz/$name-merge.log" 2>&1 || { tail -5 "build/fuzz/$name-merge.log"; return 1; }
  bytes=$(find "$kept" -type f -exec cat {} + | wc -c)
  files=$(find "$kept" -type f | wc -l)
  while read -r size file; do
    [ ! -e "$kept/$file" ] || continue
    [ $((files += 1)) -le 300 ] && [ $((bytes += size)) -le 400000 ] || break
    cp "$merged/$file" "$kept"
  done < <(find "$merged" -type f -printf '%s %f\n' | sort -rn)
  echo "fuzz: $name keeps $(find "$kept" -type f | wc -l) inputs"
}
export -f run_one keep_new
printf '%s\n' "${names[@]}" | xargs -P 2 -I{} bash -c "run_one {} $seconds"
[ $keep = no ] || printf '%s\n' "${names[@]}" | xargs -P 2 -I{} bash -c "set -euo pipefail; keep_new {}"
