"""An nginx or HAProxy between a client and a server, and what passes between the two."""

import dataclasses
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

from . import processes
from .processes import wait_until

_RUN = pathlib.Path(__file__).resolve().parent.parent.parent.parent / "tools/run_proxy.py"
# No body holds a line end.
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n")


@dataclasses.dataclass
class Exchange:
    """One connection from the proxy to the server, as bytes."""
    asked: bytearray = dataclasses.field(default_factory=bytearray)
    answered: bytearray = dataclasses.field(default_factory=bytearray)


class Tap:
    """Passes connections on to a server and keeps what was said."""

    def __init__(self, target):
        self.target = target  # (host, port)
        self.exchanges = []
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            far = socket.create_connection(self.target)
            exchange = Exchange()
            self.exchanges.append(exchange)
            self._sockets += [near, far]
            for one, other, kept in ((near, far, exchange.asked), (far, near, exchange.answered)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=(one, other, kept), daemon=True).start()

    @staticmethod
    def _pass(one, other, kept):
        try:
            while piece := one.recv(65536):
                kept += piece  # before anyone can have acted on it
                other.sendall(piece)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (one, other):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def statuses(self):
        """Of all answers so far, without 100 Continue."""
        found = [int(status) for exchange in list(self.exchanges)
                 for status in _ANSWER.findall(bytes(exchange.answered))]
        return [status for status in found if status >= 200]

    def close(self):
        self._listener.close()
        for end in self._sockets:
            end.close()


@dataclasses.dataclass(frozen=True)
class Logged:
    """What the proxy says of a request."""
    forwarded: int  # how often
    status: int  # the server's, 0: none
    request: str


class Proxy:
    """In front of `target`, a (host, port). It can be asked like a cluster: `gateway`, `program`."""

    def __init__(self, kind, target, folder, program, *, tapped=False, plain=False):
        self.kind, self.program, self.folder = kind, program, folder
        folder.mkdir()
        self.tap = Tap(target) if tapped else None
        self._log = folder / "requests.log"
        upstream = self.tap.address if tapped else "%s:%d" % target
        # One connection to the server is kept, so that all clients share it.
        command = [sys.executable, _RUN, kind, "--folder", folder, "--upstream", upstream,
                   "--log", self._log, "--idle", "1", *(["--plain"] if plain else [])]
        self._errors = open(folder / "stderr.txt", "w+", encoding="utf-8")
        # SIGTERM, because nginx has a child of its own to end.
        self._process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=self._errors, text=True,
            preexec_fn=lambda: processes.die_with_parent(signal.SIGTERM))
        word, _, port = self._process.stdout.readline().partition(" ")
        assert word == "port", f"no {kind}: {self.said()}"
        self.gateway = f"http://127.0.0.1:{int(port)}"

    def said(self):
        self._errors.seek(0)
        own = self.folder / "error.log"
        return self._errors.read() + (own.read_text() if own.exists() else "")

    def mark(self):
        """Where the log ends now."""
        return self._log.stat().st_size if self._log.exists() else 0

    def logged(self, since=0):
        """All requests that have ended since that mark."""
        if not self._log.exists():
            return []
        with open(self._log, encoding="utf-8", errors="replace") as log:
            log.seek(since)
            return [self._read(line) for line in log.read().split("\n")[:-1]]

    @staticmethod
    def _read(line):
        # nginx: "ADDRESS STATUS REQUEST"; several attempts are separated by ", ".
        servers, status, request = re.fullmatch(
            r"(\S+(?:, \S+)*) (-?\d*(?:, -?\d*)*) ?(.*)", line, re.DOTALL).groups()
        forwarded = 0 if servers in ("-", "<NOSRV>") else servers.count(",") + 1
        last = status.rsplit(", ")[-1].strip("-")
        return Logged(forwarded, int(last or 0) if forwarded else 0, request)

    def wait_logged(self, word, since):
        """Until a request with this word in its first line has ended."""
        wait_until(lambda: any(word in entry.request for entry in self.logged(since)),
                   10 * self.program.patience,
                   lambda: f"{self.kind} logged {word}; {self.logged(since)} {self.said()}")

    def close(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=20)
        self._process.stdout.close()
        self._errors.close()
        if self.tap:
            self.tap.close()
