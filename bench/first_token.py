#!/usr/bin/env python3
"""Time from `make up` to the first streamed token, as a user at a terminal sees it.

    bench/first_token.py [ROUNDS] [MODEL]      default: 5 rounds of the default model

The machine has the packages, the build and the model (one unmeasured round sees to that). The limit: 10 s.
Packed weights are kept between starts (~/.cache/pdserve); the first column is with them, the second without.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMIT_S = 10.0


def first_token(model, cache):
    """Seconds until the first byte of the answer; the cluster is ended then."""
    arguments = ["make", "-s", "-C", ROOT, "up", "PORT=0"] + ([f"MODEL={model}"] if model else [])
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    start = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                               start_new_session=True)
    output = b""
    try:
        while True:
            byte = os.read(process.stdout.fileno(), 1)
            if not byte:
                sys.exit(f"make up ended: {process.stderr.read().decode()[-2000:]}")
            output += byte
            # "\n> the question\n" and then the answer; the build may have said something before.
            question = output.find(b"\n> ")
            if question >= 0 and output[question + 3:].partition(b"\n")[2].strip():
                return time.monotonic() - start
            if time.monotonic() - start > 20 * LIMIT_S:
                sys.exit(f"no token within {20 * LIMIT_S:.0f} s: {output.decode()[-2000:]}")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


def line(name, seconds):
    median = statistics.median(seconds)
    print(f"{name:24} median {median:5.2f} s  (min {min(seconds):.2f}, max {max(seconds):.2f}, n {len(seconds)})"
          f"  limit {LIMIT_S:.0f} s: {'met' if median <= LIMIT_S else 'MISSED'}", flush=True)
    return median <= LIMIT_S


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    model = sys.argv[2] if len(sys.argv) > 2 else ""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print(f"commit {commit.stdout.strip()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    cache = tempfile.mkdtemp(prefix="pdserve-bench-")
    try:
        first_token(model, cache)
        warm = [first_token(model, cache) for _ in range(rounds)]
        cold = []
        for _ in range(rounds):
            shutil.rmtree(cache)
            cold.append(first_token(model, cache))
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    met = [line("weights packed before", warm), line("weights packed anew", cold)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
