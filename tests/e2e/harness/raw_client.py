"""One stream over a bare socket: its client decides when it reads and when it leaves."""

import json
import socket

from . import prompts


class RawClient:
    def __init__(self, cluster, receive_buffer=None, **fields):
        self.cluster = cluster
        self.before = cluster.metrics()
        self.received = b""
        body = json.dumps(prompts.story(100, **fields)).encode()
        host, port = cluster.gateway.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.settimeout(30 * cluster.program.patience)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect((host, int(port)))
        self.socket.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                            b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def read_until(self, word):
        while word not in self.received:
            piece = self.socket.recv(65536)
            assert piece, f"the stream ended: {self.received[-500:]!r}"
            self.received += piece

    def read_to_end(self):
        while piece := self.socket.recv(65536):
            self.received += piece
        return self.received

    def leave(self):
        self.socket.close()

    def grown(self, name):
        """By how much a metric of the gateway has grown since this client came."""
        return self.cluster.metrics()[name] - self.before[name]
