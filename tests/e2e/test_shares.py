"""Gateways, or loops of one, that want very different shares of full instances: who has little gets it (G14, G32)."""

import asyncio
import threading
import time

import aiohttp
import pytest

from harness.background import in_background
from harness.gateways import Gateway

HEAVY_CLIENTS = 6
LIGHT_REQUESTS = 12
TTFT_LIMIT_S = 10.0


@pytest.fixture
def cluster(start_cluster):
    # Two places on D for six clients of one gateway: they are never free for long.
    return start_cluster(prefill=1, decode=1, config={
        "gateway": {"ttft_limit": f"{TTFT_LIMIT_S:g}s", "request_limit": "60s", "loops": 1},
        "prefill": {"slots": 8}, "decode": {"batch": 2}})


def body(name):
    return {"prompt": f"Story {name} once", "max_tokens": 450, "ignore_eos": True, "stream": True}


async def ask(session, url, name):
    """(status, ended as it should, the longest silence)"""
    last = time.monotonic()
    silence, text = 0.0, b""
    async with session.post(f"{url}/v1/completions", json=body(name)) as response:
        async for line in response.content:
            now = time.monotonic()
            silence, last = max(silence, now - last), now
            text = line if line.strip() else text
    return response.status, text.strip() == b"data: [DONE]", max(silence, time.monotonic() - last)


async def in_session(work):
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20,
                                     timeout=aiohttp.ClientTimeout(total=120)) as session:
        return await work(session)


def heavy(url, stop):
    """Clients that ask again as soon as they have been answered."""
    async def client(session, number):
        ends, asked = [], 0
        while not stop.is_set():
            ends.append(await ask(session, url, f"heavy {number} {asked}"))
            asked += 1
        return ends

    async def all_clients(session):
        found = await asyncio.gather(*(client(session, i) for i in range(HEAVY_CLIENTS)))
        return [end for ends in found for end in ends]
    return asyncio.run(in_session(all_clients))


def light(url):
    """One now and then."""
    async def paced(session):
        asked = []
        for number in range(LIGHT_REQUESTS):
            asked.append(asyncio.create_task(ask(session, url, f"light {number}")))
            await asyncio.sleep(0.3)  # this client's pace
        return await asyncio.gather(*asked)
    return asyncio.run(in_session(paced))


def test_who_has_little_gets_it_beside_who_has_much(cluster):
    other = Gateway(cluster, "light", loops=1).wait_ready()
    stop = threading.Event()
    join = in_background(lambda: heavy(cluster.gateway, stop))
    try:
        few = light(other.url)
    finally:
        stop.set()
    many = join()
    assert all(status == 200 and whole for status, whole, _ in many), many
    assert all(status == 200 and whole for status, whole, _ in few), few
    # A place on D is free several times a second. Before instances told whom they had rejected, nineteen of
    # twenty were refused after 10 s, and one was silent for a minute.
    silences = sorted(silence for _, _, silence in few)
    print(f"silences of the light one: {[round(s, 2) for s in silences]}; {len(many)} heavy requests")
    assert silences[-1] < TTFT_LIMIT_S / 2 * cluster.program.patience, silences
    assert other.end() == 0
    cluster.check_and_end()
