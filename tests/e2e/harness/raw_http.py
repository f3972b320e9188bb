"""HTTP/1.1 as bytes: for requests that no client library would send, and answers taken strictly."""

import dataclasses
import json
import re
import socket


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def error(self):
        return json.loads(self.body)["error"]

    @property
    def closes(self):
        return self.headers.get("connection") == "close"


_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n((?:[a-z-]+: [ -~]*\r\n)*)\r\n")


def take_answer(data, has_body=True):
    """The first answer in `data` and the bytes behind it; (None, data) when it is not whole."""
    head = _HEAD.match(data)
    if not head:
        assert b"\r\n\r\n" not in data, f"not an answer: {data[:300]!r}"
        return None, data
    headers = dict(line.split(": ", 1) for line in head[2].decode().split("\r\n")[:-1])
    status = int(head[1])
    if status == 100:
        return Answer(status, headers, b""), data[head.end():]
    end = head.end() + (int(headers["content-length"]) if has_body else 0)
    if len(data) < end:
        return None, data
    return Answer(status, headers, data[head.end():end]), data[end:]


class Connection:
    """One connection to the cluster's gateway."""

    def __init__(self, cluster):
        host, port = cluster.gateway.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)),
                                               timeout=20 * cluster.program.patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_by_byte(self, data):
        """Until the other side has closed: it may refuse in the middle."""
        try:
            for i in range(len(data)):
                self.socket.sendall(data[i:i + 1])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def take(self, has_body=True):
        """The next answer; it must come."""
        while True:
            answer, self.received = take_answer(self.received, has_body)
            if answer:
                return answer
            piece = self.socket.recv(65536)
            assert piece, f"the connection ended within an answer: {self.received[:300]!r}"
            self.received += piece

    def finish(self):
        """Says that no more comes; everything that the other side still had to say."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed by the other side
        data, self.received = self.received, b""
        while piece := self.socket.recv(65536):
            data += piece
        return data


def post(path, body):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
