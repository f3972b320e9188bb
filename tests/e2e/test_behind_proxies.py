"""The gateway behind an nginx and an HAProxy: no request is delimited differently by the two, so that
nobody reads another's answer, and streams arrive as they are made. Both are of the distribution
(tools/install_packages.sh --test)."""

import collections
import http.client
import json
import re
import socket
import threading
import urllib.parse
import uuid

import pytest

from harness import prompts, proxies, raw_http, smuggling, streams, suites
from harness.processes import wait_until

KINDS = ("nginx", "haproxy")
# What says that a request is complete or broken for a server that waits for more.
HEAD_END = b"\r\n\r\n"
# A connection silent for so long has no more answers to give, as a rule: what follows was taken for
# part of an unfinished request. Who is slower than that is not believed to be out of step.
SILENCE_S = 0.3
MARKED = re.compile(rb"Invalid URL \(GET /(innocent|victim)-(\w+)\)")


def port_of(server):
    url = urllib.parse.urlsplit(server.gateway)
    return url.hostname, url.port


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster()


@pytest.fixture(scope="module")
def start_proxy(tmp_path_factory, program):
    started = []

    def start(kind, target, **options):
        folder = tmp_path_factory.mktemp("proxies") / kind
        started.append(proxies.Proxy(kind, target, folder, program, **options))
        return started[-1]
    yield start
    for proxy in started:
        proxy.close()


# ---- nobody reads another's answer ----

def speak(proxy, data, last):
    """What comes back on a connection that says `data`, and whether this side ended it before it had
    read `last`."""
    received, gave_up = b"", False
    with raw_http.Connection(proxy) as connection:
        own = connection.socket
        try:
            connection.send(data)
            own.settimeout(SILENCE_S)
            while piece := own.recv(65536):
                received += piece
                if last in received:
                    return received + connection.finish(), False
        except TimeoutError:
            gave_up = True
        except ConnectionError:
            pass  # a refusal does not wait for who is refused
    return received, gave_up


def check_victim(proxy, name):
    """Somebody else, through the same connection to the server."""
    connection = http.client.HTTPConnection(*port_of(proxy), timeout=10 * proxy.program.patience)
    connection.request("GET", f"/victim-{name}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404 and f"(GET /victim-{name})".encode() in body, \
        f"a later client was answered {answer.status} {body!r}"


def try_case(proxy, data):
    """`data` and a request that knows nothing of it, then others. Whether the former was answered."""
    mark, before = proxy.mark(), len(proxy.tap.statuses())
    name = uuid.uuid4().hex
    innocent = b"GET /innocent-%s" % name.encode()
    received, gave_up = speak(proxy, data + innocent + b" HTTP/1.1\r\nHost: a\r\n\r\n",
                              b"(%s)" % innocent)
    check_victim(proxy, f"{name}1")
    check_victim(proxy, f"{name}2")
    proxy.wait_logged(f"/victim-{name}2", mark)

    own = [found for found in MARKED.findall(received)]
    assert own in ([], [(b"innocent", name.encode())]), f"answers of others: {received!r}"
    if own:
        rest = received[MARKED.search(received).end():]
        assert b"HTTP/1." not in rest, f"an answer behind the last: {received!r}"
    logged = [entry for entry in proxy.logged(mark) if f"/innocent-{name} " in entry.request]
    if any(entry.status for entry in logged) and not gave_up:
        assert own, f"forwarded, and another's answer given: {received!r}"

    # Who sees two requests where the proxy sees one gives an answer too many.
    wait_until(lambda: len(proxy.tap.statuses()) - before <= forwarded(proxy, mark),
               2 * proxy.program.patience,
               lambda: f"forwarded {proxy.logged(mark)}, answered {proxy.tap.statuses()[before:]}, "
                       f"to {received!r}")
    for status in proxy.tap.statuses()[before:]:
        assert 200 <= status < 500 or status in (501, 505), f"answered with {status}"
    if not gave_up:
        broken = [entry for entry in proxy.logged(mark) if entry.status in (502, 503, 504)]
        assert not broken, f"the gateway gave no answer: {broken}, {received!r}"
    return bool(own)


def forwarded(proxy, mark):
    return sum(entry.forwarded for entry in proxy.logged(mark))


def try_all(proxy, cases):
    """How many of the innocent were answered. Fails with a list of all that went wrong."""
    wrong, answered = [], 0
    for name, data in cases.items():
        try:
            answered += try_case(proxy, data)
        except (AssertionError, OSError, http.client.HTTPException) as found:
            wrong.append(f"{name}: {type(found).__name__} {found}\n    {data[:300]!r}")
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:20])
    return answered


def llhttp_cases():
    made = {}
    for case in suites.http_cases():
        for data in (case.data, suites.servable(case.data)):
            if data not in made.values():
                made[f"{case.name} ({len(made)})"] = data
            if case.error or case.open:
                made[f"{case.name} ({len(made)}, ended)"] = data + HEAD_END
    return made


@pytest.fixture(scope="module", params=KINDS)
def tapped(request, cluster, start_proxy):
    return start_proxy(request.param, port_of(cluster), tapped=True)


def test_requests_of_our_own_do_not_desynchronise(tapped):
    cases = smuggling.cases()
    assert try_all(tapped, cases) > len(cases) / 10


def test_requests_of_llhttp_do_not_desynchronise(tapped):
    cases = llhttp_cases()
    assert try_all(tapped, cases) > len(cases) / 10


class BodyBlind:
    """A server that reads no bodies: what others take for one is a request to it."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection):
        data = b""
        try:
            while piece := connection.recv(65536):
                data += piece
                while HEAD_END in data:
                    head, _, data = data.partition(HEAD_END)
                    method, target = head.split(b" ")[:2]
                    body = b"Invalid URL (%s %s)" % (method, target)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n"
                                       % len(body) + body)
        except OSError:
            pass

    def close(self):
        self._listener.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_desynchronised_server_would_be_found(start_proxy, kind):
    server = BodyBlind()
    proxy = start_proxy(kind, server.address, tapped=True)
    cases = smuggling.cases()
    assert try_case(proxy, cases["pipelined"])
    with pytest.raises(AssertionError, match="answered"):
        try_case(proxy, cases["body of PUT"])
    server.close()


# ---- streams arrive as they are made ----

STREAM_KINDS = (("nginx", False), ("nginx", True), ("haproxy", False))


@pytest.fixture(scope="module", params=STREAM_KINDS, ids=["nginx", "nginx-plain", "haproxy"])
def proxy(request, cluster, start_proxy):
    kind, plain = request.param
    return start_proxy(kind, port_of(cluster), plain=plain)


class Stream:
    """The events of one answer, one by one."""

    def __init__(self, server, body):
        self._connection = http.client.HTTPConnection(*port_of(server),
                                                      timeout=20 * server.program.patience)
        self._connection.request("POST", "/v1/completions", json.dumps(body),
                                 {"content-type": "application/json"})
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self.texts = []
        self.tokens = 0  # so far, as the stream itself counts them
        self.done = False

    def next(self):
        """Reads one more event."""
        while not (line := self._answer.readline()).startswith(b"data: "):
            assert line, f"the stream ended after {self.texts[-3:]}"
        if line == b"data: [DONE]\n":
            self.done = True
            self._connection.close()
            return
        chunk = json.loads(line[6:])
        self.texts += [choice["text"] for choice in chunk["choices"]]
        self.tokens = chunk["usage"]["completion_tokens"]

    def read_tokens(self, count, within):
        """Reads up to that token; no event is that many seconds away."""
        patience = self._socket.gettimeout()
        self._socket.settimeout(within)
        try:
            while self.tokens < count:
                self.next()
        except TimeoutError:
            raise AssertionError(f"{count} tokens left the gateway, {self.tokens} came") from None
        self._socket.settimeout(patience)

    def read_to_end(self):
        while not self.done:
            self.next()
        return self.texts


def handed_out(cluster):
    return cluster.metrics()["pdserve_output_tokens_total"]


def settled_tokens(cluster):
    """Tokens that the gateway has handed out, once what it was sent before has arrived."""
    seen = [handed_out(cluster)]

    def settled():
        seen.append(handed_out(cluster))
        return seen[-1] == seen[-2]
    wait_until(settled, 10, lambda: f"tokens still come: {seen}", pause=0.05)
    return int(seen[-1])


def test_many_streams_are_the_same_through_it(cluster, proxy, seed):
    bodies = prompts.bodies(seed + 300, 40, tokens=24)
    direct = streams.completions(cluster, bodies)
    streams.assert_complete(direct)
    through = streams.completions(proxy, bodies)
    streams.assert_same(direct, through, f"through {proxy.kind}")
    assert [len(o.arrivals) for o in through] == [len(o.arrivals) for o in direct]


def test_each_token_arrives_before_the_next_is_made(cluster, proxy):
    """D stands still in the midst of a stream: every token that left the gateway is here."""
    tokens = 450
    body = prompts.story(tokens, stream_options={"include_usage": True,
                                                 "continuous_usage_stats": True})
    expected = Stream(cluster, body).read_to_end()
    assert len(expected) >= tokens
    decode, = cluster.instances("decode")
    stops = collections.Counter()
    while stops["within"] < 2:
        stops["all"] += 1
        assert stops["all"] < 20, "every stream ended before it could be stopped"
        before = handed_out(cluster)
        stream = Stream(proxy, body)
        while stream.tokens < 20 * stops["all"] % 100:
            stream.next()
        cluster.freeze(decode)
        try:
            made = settled_tokens(cluster) - int(before)
            stream.read_tokens(made, within=2)
        finally:
            cluster.thaw(decode)
        stops["within"] += made < tokens
        assert stream.read_to_end() == expected
