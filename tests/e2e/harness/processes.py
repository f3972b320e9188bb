"""Which processes belong to one cluster, and what they leave behind.

A cluster's first process gets a mark in its environment, which every descendant inherits, also one
whose parent has died. Nothing without the mark is ever signalled.
"""

import ctypes
import os
import pathlib
import signal
import time

MARK = "PDSERVE_E2E_CLUSTER"
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_SHARED_MEMORY = pathlib.Path("/dev/shm")


def die_with_parent(how=signal.SIGKILL):
    """For the child, before exec: a test run that is killed leaves nothing behind. And Ctrl-C ends
    the child, which a shell takes from what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, how)


def environment_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # it has ended, or is another user's


def has_mark(pid, mark):
    return f"{MARK}={mark}".encode() in environment_of(pid)


def marked(mark):
    """Ids of the living processes with this mark (a zombie has no environment)."""
    pids = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted(pid for pid in pids if has_mark(pid, mark))


def command_of(pid):
    try:
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "(ended)"
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def wait_until(condition, limit, what, pause=0.01):
    """Polls something outside of this process. Returns its first true value; fails after `limit`."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit:.1f} s: {what() if callable(what) else what}")
        time.sleep(pause)


def gone(mark, limit):
    """Waits until no process has the mark; the names of those that still do."""
    deadline = time.monotonic() + limit
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return {pid: command_of(pid) for pid in left}


def kill_marked(mark):
    """SIGKILL for whatever still has the mark, until nothing has."""
    deadline = time.monotonic() + 10
    while (left := marked(mark)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def shared_memory():
    """Names in /dev/shm."""
    # Named semaphores are other programs': pdserve and UCX make none.
    return {entry.name for entry in _SHARED_MEMORY.iterdir() if not entry.name.startswith("sem.")}


def unmapped(names):
    """Those of `names` in /dev/shm that no living process has mapped or open."""
    used = set()
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            used.update(line.split("/dev/shm/", 1)[1].split()[0]
                        for line in (process / "maps").read_text(errors="replace").splitlines()
                        if "/dev/shm/" in line)
            used.update(os.path.basename(target) for fd in (process / "fd").iterdir()
                        if (target := os.readlink(fd)).startswith("/dev/shm/"))
        except OSError:
            continue
    return {name for name in names if name not in used and (_SHARED_MEMORY / name).exists()}


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
