#!/usr/bin/env python3
"""Encoding speed of pdserve and of the Python package `tokenizers`, one thread each, in one run.

    cmake --build build/release --target tokenizer_bench
    tools/fetch_test_tokenizers.sh
    python3 -m venv .venv && .venv/bin/pip install tokenizers==0.22.1
    .venv/bin/python bench/tokenizer_speed.py [ROUNDS]

The texts: this project's sources and documents cut into pieces of 2 KB, and the multilingual texts of the
test vectors joined into pieces of the same size. The sides take turns; medians and spreads (largest - smallest)
of ROUNDS rounds.
"""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import tokenizers  # noqa: E402
from tokenizer_texts import texts as test_texts  # noqa: E402

PIECE = 2000
NAMES = ("llama3_1", "qwen3", "llama2")


def pieces():
    files = sorted(p for kind in ("src/**/*.cc", "src/**/*.h", "**/*.md", "tools/*.py") for p in ROOT.glob(kind)
                   if not {"build", ".cache", ".venv"} & set(p.relative_to(ROOT).parts))
    written = "".join(p.read_text() for p in files)
    foreign = " ".join(t for kind, t in test_texts() if kind == "text").replace("\0", "")
    for text in (written, foreign):
        yield from (text[at : at + PIECE] for at in range(0, len(text), PIECE))


def ours(name, text_file):
    folder = ROOT / ".cache" / "tokenizers" / name
    out = subprocess.run([ROOT / "build/release/tokenizer_bench", text_file, folder, "--benchmark_filter=^encode/",
                          "--benchmark_format=json", "--benchmark_min_time=1"], check=True, capture_output=True)
    return json.loads(out.stdout)["benchmarks"][0]["bytes_per_second"] / 1e6


def theirs(tokenizer, parts, size):
    begin = time.perf_counter()
    for part in parts:
        tokenizer.encode(part)
    return size / (time.perf_counter() - begin) / 1e6


def show(values):
    return f"{statistics.median(values):8.2f} ({max(values) - min(values):.2f})"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    parts = list(pieces())
    size = sum(len(p.encode()) for p in parts)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{platform.processor() or platform.machine()}, commit {commit.strip()}, tokenizers {tokenizers.__version__}, "
          f"{len(parts)} texts, {size / 1e6:.2f} MB, {rounds} rounds")
    print("MB/s: median (spread)   pdserve            tokenizers         ratio")
    with tempfile.NamedTemporaryFile() as file:
        file.write("\0".join(parts).encode())
        file.flush()
        for name in NAMES:
            reference = tokenizers.Tokenizer.from_file(str(ROOT / ".cache" / "tokenizers" / name / "tokenizer.json"))
            mine, other = [], []
            for _ in range(rounds):
                mine.append(ours(name, file.name))
                other.append(theirs(reference, parts, size))
            ratio = statistics.median(mine) / statistics.median(other)
            print(f"{name:22} {show(mine):18} {show(other):18} {ratio:5.1f}")


main()
