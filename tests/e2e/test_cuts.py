"""Clients that leave at any byte of their request, at any moment, at any byte of the answer: nothing of them stays
(G2): no slot, no block, no descriptor, no memory."""

import asyncio
import json
import os
import pathlib
import socket
import struct

import pytest

from harness.processes import wait_until

AT_ONCE = 32
# Connections between gateway and instances are kept while idle, and let go after 30 s.
IDLE_S = 45.0


def request_bytes(rng):
    body = json.dumps({"prompt": "Once upon a time " * rng.randrange(1, 20), "ignore_eos": True,
                       "max_tokens": rng.randrange(1, 120), "stream": rng.random() < 0.7,
                       "n": rng.choice([1, 1, 1, 2])}).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body))


async def cut(address, request, plan):
    """Sends `plan.send` bytes, waits `plan.wait` seconds, reads `plan.read` bytes, and leaves."""
    send, wait, read, reset = plan
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request[:send])
        await asyncio.sleep(wait)  # the client's own pace, not a wait for anything
        while read > 0 and send == len(request):
            piece = await reader.read(read)
            if not piece:
                return "answered"
            read -= len(piece)
    finally:
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                       struct.pack("ii", 1, 0))
        writer.close()
    return "cut"


def make_plan(rng, size):
    kind = rng.randrange(3)
    if kind == 0:  # inside the request
        return rng.randrange(size), 0, 0, rng.random() < 0.5
    if kind == 1:  # before an answer, or a little into it
        return size, rng.random() * 0.05, 0, rng.random() < 0.5
    return size, 0, rng.randrange(1, 30000), rng.random() < 0.5


def cut_many(cluster, rng, count):
    host, port = cluster.gateway.removeprefix("http://").split(":")

    async def everything():
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(request, plan):
            async with gate:
                return await asyncio.wait_for(cut((host, int(port)), request, plan),
                                              60 * cluster.program.patience)
        requests = [request_bytes(rng) for _ in range(count)]
        return await asyncio.gather(*(one(r, make_plan(rng, len(r))) for r in requests))
    ends = asyncio.run(everything())
    assert ends.count("cut") > count / 3, "most clients leave before their answer has ended"


def processes(cluster):
    return {"gateway": cluster.state["pids"]["gateway"],
            **{f"{i.role} {i.id}": i.pid for i in cluster.instances()}}


def descriptors(cluster):
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in processes(cluster).items()}


def resident(cluster):
    """Private memory, in bytes: what all share is not theirs."""
    found = {}
    for name, pid in processes(cluster).items():
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        found[name] = 1024 * sum(int(line.split()[1]) for line in rollup.splitlines()
                                 if line.startswith("Private_"))
    return found


@pytest.mark.heavy
def test_nothing_of_a_client_that_leaves_stays(start_cluster, rng, scaled):
    cluster = start_cluster(prefill=2, decode=2)
    count = scaled(300)
    # A channel to each instance is opened when it is needed, and stays.
    channels = len(cluster.instances())
    before = {name: count + (channels if name == "gateway" else 1)
              for name, count in descriptors(cluster).items()}
    cut_many(cluster, rng, 200)  # fills what is kept for reuse
    cluster.wait_idle()
    memory = resident(cluster)
    cut_many(cluster, rng, count)
    cluster.wait_idle()
    after = resident(cluster)
    grown = {name: after[name] - memory[name] for name in memory}
    print(f"private memory after {count} cuts: {grown}, bytes each: "
          f"{ {name: round(value / count, 1) for name, value in grown.items()} }")
    # Prefix caches and pools of buffers fill up to their bounds; what leaks grows with every cut.
    assert max(grown.values()) < 16 * 2**20 + 200 * count, grown
    cluster.check_metrics()

    def as_before():
        return all(count <= before[name] for name, count in descriptors(cluster).items())
    wait_until(as_before, IDLE_S * cluster.program.patience,
               lambda: f"descriptors: {before} became {descriptors(cluster)}")
    cluster.check_and_end()
