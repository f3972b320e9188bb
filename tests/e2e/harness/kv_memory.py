"""A prefill instance's send buffer, written to from outside: what broken hardware or a late writer would do.

The buffer is a memfd of the instance; a range begins with a header (src/transfer/kv_range.cc)."""

import contextlib
import mmap
import os

MAGIC = b"kvrange1"
HEADER_WORDS = 7  # magic, epoch, key (2), layout hash, weights digest, tokens


@contextlib.contextmanager
def the_range(pid):
    """(memory, start) of the only range of `pid` that a reader would believe, mapped for writing."""
    folder = f"/proc/{pid}/fd"
    names = [n for n in os.listdir(folder) if "memfd:pdserve-kv" in os.readlink(f"{folder}/{n}")]
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            file = os.open(f"{folder}/{name}", os.O_RDWR)
            stack.callback(os.close, file)
            memory = stack.enter_context(mmap.mmap(file, os.fstat(file).st_size))
            at = memory.find(MAGIC)
            while at >= 0:
                found.append((memory, at))
                at = memory.find(MAGIC, at + 1)
        assert len(found) == 1, f"{pid} holds {len(found)} ranges in {len(names)} regions"
        yield found[0]


def word(memory, start, index):
    return int.from_bytes(memory[start + 8 * index:start + 8 * index + 8], "little")


def set_word(memory, start, index, value):
    memory[start + 8 * index:start + 8 * index + 8] = (value % 2**64).to_bytes(8, "little")
