"""Clients that are slow with their requests or with their answers: what is held for them is bounded, nobody
else waits for them, and they are cut or told in the end (G17)."""

import json
import resource
import socket
import time

import pytest

from harness import prompts, streams
from harness.processes import resident_mib, wait_until

# What waits for one reader beyond the buffers of the sockets, before it is cut.
WRITE_BUFFER_MIB = 1


def connect(cluster, receive_buffer=None):
    host, port = cluster.gateway.removeprefix("http://").split(":")
    client = socket.socket()
    client.settimeout(30 * cluster.program.patience)
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect((host, int(port)))
    return client


def read_all(client):
    data = b""
    try:
        while piece := client.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    client.close()
    return data


def others(cluster, expected, bodies):
    streams.assert_same(expected, streams.completions(cluster, bodies), "beside slow clients")


def test_slow_readers(start_cluster):
    """Answers of some 6 MB each that nobody reads: more than a socket's buffers hold."""
    cluster = start_cluster(config={"decode": {"batch": 256}})
    bodies = prompts.bodies(5, 8, tokens=60, prompt_tokens=(1, 30))
    expected = streams.completions(cluster, bodies)
    streams.assert_complete(expected)
    gateway = cluster.state["pids"]["gateway"]
    before = cluster.metrics()
    resident = resident_mib(gateway)
    body = json.dumps({"prompt": "Once", "n": 16, "max_tokens": 500, "ignore_eos": True, "stream": True,
                       "logprobs": 20, "stream_options": {"continuous_usage_stats": True}}).encode()
    readers = [connect(cluster, receive_buffer=4096) for _ in range(8)]
    for reader in readers:
        reader.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body)
    most = resident

    def all_cut():
        nonlocal most
        most = max(most, resident_mib(gateway))
        return (cluster.metrics()["pdserve_requests_cancelled_total"]
                - before["pdserve_requests_cancelled_total"]) == len(readers)
    others(cluster, expected, bodies)
    wait_until(all_cut, 60 * cluster.program.patience, "every slow reader is cut")
    # What is not sent stays in one buffer, which at its growth is there twice.
    assert most - resident < (2 * WRITE_BUFFER_MIB + 1) * len(readers) * cluster.program.patience
    cluster.wait_idle()
    others(cluster, expected, bodies)
    for reader in readers:  # what the sockets held, then the cut: not an end that looks like one
        answer = read_all(reader)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"[DONE]" not in answer
    assert cluster.metrics()["pdserve_requests_failed_total"] == before["pdserve_requests_failed_total"]
    cluster.check_and_end()


def raise_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))


@pytest.mark.parametrize("kind", ["heads", "bodies", "bombs"])
def test_slow_or_endless_requests(start_cluster, kind):
    """Hundreds of requests that never become whole. Heads end with 408 after 10 s, endless ones at
    once with 431; of bodies no more than 256 MiB are held at a time, and the rest is told 503."""
    raise_descriptors()
    cluster = start_cluster()
    bodies = prompts.bodies(6, 8, tokens=60, prompt_tokens=(1, 30))
    expected = streams.completions(cluster, bodies)
    streams.assert_complete(expected)
    gateway = cluster.state["pids"]["gateway"]
    resident = resident_mib(gateway)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
    clients = [connect(cluster) for _ in range(400 if kind != "bodies" else 60)]
    began = time.monotonic()
    for number, client in enumerate(clients):
        try:
            if kind == "heads":
                client.sendall(head[:1 + number % len(head)])
            elif kind == "bombs":
                client.sendall(head + b"X-Padding: " + b"y" * 100_000)
            else:
                client.sendall(head + b"Content-Length: 9000000\r\n\r\n" + b"z" * 8_000_000)
        except (BrokenPipeError, ConnectionResetError):
            pass  # told in the middle
    others(cluster, expected, bodies)
    bound = {"heads": 40, "bombs": 40, "bodies": 400}[kind]
    assert resident_mib(gateway) - resident < bound * cluster.program.patience
    if kind == "heads":
        for number, client in enumerate(clients):  # a byte now and then does not win time
            client.sendall((head + b"A")[1 + number % len(head):][:1])
    if kind == "bodies":
        told = 0
        for client in clients:
            client.settimeout(0)
            try:
                told += client.recv(65536).startswith(b"HTTP/1.1 503 ")
            except BlockingIOError:
                pass  # held, and waited for
            client.close()
        assert told >= len(clients) - 256 * 2**20 // 8_000_000 - 1, told
        wait_until(lambda: resident_mib(gateway) - resident < 60 * cluster.program.patience, 20,
                   "what was held is given back")
    else:
        status = b"408" if kind == "heads" else b"431"
        for client in clients:
            answer = read_all(client)
            assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
        took = time.monotonic() - began
        assert took < (20 if kind == "heads" else 10) * cluster.program.patience, took
    others(cluster, expected, bodies)
    cluster.check_and_end()
