"""More clients than a gateway has file descriptors for: those that it took in are served, the others
are told, and it goes on as before when they have left."""

import json
import os
import socket

from harness import streams
from harness.gateways import Gateway
from harness.processes import wait_until

DESCRIPTORS = 96
CLIENTS = 120
LONG = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "temperature": 0,
        "stream": True, "logprobs": 0, "stream_options": {"include_usage": True}}


class Client:
    """A raw connection that asks and stays."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
        self.file = self.socket.makefile("rb")

    def ask(self, path="/metrics"):
        """Status and body; status 0: closed without an answer."""
        try:
            self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            line = self.file.readline()
            if not line:
                return 0, b""
            length = 0
            while (header := self.file.readline().strip()):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return int(line.split()[1]), self.file.read(length)
        except OSError:
            return 0, b""

    def close(self):
        self.file.close()
        self.socket.close()


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def value_of(text, name):
    return sum(float(line.rsplit(b" ", 1)[1]) for line in text.splitlines()
               if line.split(b"{")[0].split(b" ")[0] == name)


def test_more_clients_than_descriptors(start_cluster):
    cluster = start_cluster(prefill=1, decode=1)
    gateway = Gateway(cluster, "narrow", descriptors=DESCRIPTORS).wait_ready()
    assert "ulimit -n" in gateway.log()
    url = f"{gateway.url}/v1/completions"
    expected = streams.run(url, [LONG], limit=60 * cluster.program.patience)
    streams.assert_complete(expected)

    watcher = Client(gateway.port)
    assert watcher.ask()[0] == 200
    clients = []

    def flood(_, count):
        if count == 20:
            clients.extend(Client(gateway.port) for _ in range(CLIENTS))
    seen = streams.run(url, [LONG], observe=flood, limit=60 * cluster.program.patience)
    streams.assert_same(expected, seen, "while others came")
    answers = [client.ask("/health") for client in clients]
    assert {status for status, _ in answers} <= {200, 503}
    refused = [json.loads(body) for status, body in answers if status == 503]
    assert 200 in {status for status, _ in answers}
    assert len(refused) > CLIENTS // 2, "most of them found no place"
    assert all(answer["error"]["message"] for answer in refused)
    status, metrics = watcher.ask()
    assert status == 200
    assert value_of(metrics, b"pdserve_connections_refused_total") >= len(refused)
    assert value_of(metrics, b"pdserve_connections_open") < DESCRIPTORS
    assert len(os.listdir(f"/proc/{gateway.process.pid}/fd")) < DESCRIPTORS
    before = cpu_seconds(gateway.process.pid)
    for _ in range(20):  # it has nobody to wait for but these, and must not spin on the others
        assert watcher.ask("/health")[0] == 200
    assert cpu_seconds(gateway.process.pid) - before < 0.5

    for client in clients:
        client.close()
    wait_until(lambda: value_of(watcher.ask()[1], b"pdserve_connections_open") <= 2,
               20 * cluster.program.patience, "the clients that left are forgotten")
    streams.assert_same(expected, streams.run(url, [LONG], limit=60 * cluster.program.patience))
    watcher.close()
    assert gateway.end() == 0
    cluster.check_and_end()
