#!/usr/bin/env python3
"""The project's own rules, checked. Run from anywhere; prints one line per breach and exits 1 if there is one.

A rule not worth checking is not a rule. Size limits are ratchets: a file over its limit must be listed with the
size it may have, and the list may only shrink.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FILE_LINES_MAX = 500
LINE_COLUMNS_MAX = 100  # except for a string literal that clang-format cannot break

# Files that may be longer, with their limit. Shrink it; do not add to it without a reason beside the entry.
LONGER = {}

BANS = [
    (r"\bgetenv\s*\(", "getenv: configuration comes in as a value", r"^src/cli/"),
    (r"\b(std::)?rand\s*\(", "rand: take an Rng&", None),
    (r"std::random_device", "random_device: seeds are drawn in src/cli", r"^src/cli/"),
    (r"\.detach\s*\(\)", "detach: threads are owned", None),
    (r"\bsleep_for\b|\busleep\s*\(|\bsleep_until\b", "sleep: wait for the event", r"_bench\.cc$"),
    (r"\bCHECK_[A-Z]+\(|\bassert\s*\(", "use CHECK(condition)", r"_test\.cc$"),
    (r"steady_clock::now|system_clock::now", "a clock: decisions are told the time", r"^src/(base/time\.h|net/|worker/|gateway/|controller/|cli/|transfer/|model/.*_bench|engine/.*_bench|bench/)|_test\.cc$|_bench\.cc$"),
    (r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", "TODO without an issue number", None),
]
PURE = re.compile(r"^src/(policy|protocol)/")
PURE_BANS = [
    (r"#include <(thread|mutex|fstream|condition_variable|random|atomic)>", "decisions own no thread, lock, file or random device"),
    (r"SteadyTime", "decisions are told the time"),
]


def modules():
    """Module -> (layer, dependencies), from the CMake lists."""
    found = {}
    for path in ROOT.glob("src/*/CMakeLists.txt"):
        text = path.read_text()
        match = re.search(r"pd_module\((\w+)\s+LAYER\s+(\d+)(.*?)\n?\)", text, re.S)
        if not match:
            continue
        deps = re.search(r"DEPS\s+([\w\s]*?)(?=\n|PUBLIC_LIBS|LIBS|SRCS|$)", match.group(3))
        found[match.group(1)] = (int(match.group(2)), set(deps.group(1).split()) if deps else set())
    return found


def closure(name, known, seen=None):
    seen = seen if seen is not None else set()
    for dep in known.get(name, (0, set()))[1]:
        if dep not in seen:
            seen.add(dep)
            closure(dep, known, seen)
    return seen


def check_file(path, relative, known, report):
    text = path.read_text()
    lines = text.split("\n")
    if len(lines) > LONGER.get(relative, FILE_LINES_MAX):
        report(relative, 1, f"{len(lines)} lines, at most {LONGER.get(relative, FILE_LINES_MAX)}: which noun is missing?")
    module = relative.split("/")[1]
    allowed = closure(module, known) | {module}
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0] if "//" in line and '"' not in line else line
        if len(line) > LINE_COLUMNS_MAX and '"' not in line:
            report(relative, number, f"{len(line)} columns, at most {LINE_COLUMNS_MAX}")
        for pattern, why, exempt in BANS:
            target = line if "TODO" in why else code
            if re.search(pattern, target) and not (exempt and re.search(exempt, relative)):
                report(relative, number, why)
        if PURE.match(relative) and not relative.endswith(("_test.cc", "_fuzz.cc")):
            for pattern, why in PURE_BANS:
                if re.search(pattern, code):
                    report(relative, number, why)
        included = re.match(r'#include "(\w+)/', code)
        if included and module in known and included.group(1) in known and included.group(1) not in allowed:
            report(relative, number, f"module {module} must not include {included.group(1)}: it is not among its dependencies")
        if re.match(r"\s*//\s*[\w:>.-]+\(.*\);\s*$", line):
            report(relative, number, "commented-out code")


def main():
    breaches = []
    known = modules()
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "src", "tests", "bench"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()
    cmake = "\n".join(p.read_text() for p in ROOT.glob("src/**/CMakeLists.txt")) + "\n".join(
        p.read_text() for p in ROOT.glob("tests/**/CMakeLists.txt"))
    for relative in sorted(set(listed)):
        path = ROOT / relative
        if path.suffix not in (".h", ".cc") or not path.exists():
            continue
        check_file(path, relative, known, lambda f, n, why: breaches.append(f"{f}:{n}: {why}"))
        if path.suffix == ".cc" and path.name not in cmake:
            breaches.append(f"{relative}:1: in no CMake list: a dead file")
    for line in breaches:
        print(line)
    print(f"tidy: {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
