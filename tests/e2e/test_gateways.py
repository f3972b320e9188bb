"""Several gateways on one cluster, several event loops in one, and one that replaces another."""

import http.client
import json
import os
import signal
import stat
import threading
import time

import httpx
import pytest

from harness import streams
from harness.background import in_background
from harness.faults import freeze_all, thaw_all
from harness.gateways import Gateway
from harness.processes import wait_until
from test_doors import access_file

BODIES = [{"prompt": f"Once upon a time number {i}", "max_tokens": 300, "ignore_eos": True,
           "temperature": 0, "stream": True, "logprobs": 0,
           "stream_options": {"include_usage": True}}
          for i in range(12)]


def stream_all(gateway, bodies=BODIES, **options):
    return streams.run(f"{gateway.url}/v1/completions", bodies,
                       limit=120 * gateway.program.patience, **options)


@pytest.fixture
def cluster(start_cluster):
    return start_cluster(prefill=2, decode=2)


def test_a_gateway_that_dies_takes_only_its_own_clients_along(cluster):
    dying = Gateway(cluster, "dying").wait_ready()
    staying = Gateway(cluster, "staying").wait_ready()
    expected = stream_all(staying)
    streams.assert_complete(expected)

    def kill_in_the_middle(index, count):
        if index == 0 and count == 20:
            dying.process.kill()

    def lose():
        try:
            return stream_all(dying, observe=kill_in_the_middle)
        except Exception as error:  # as its clients see it
            return error
    lost = in_background(lose)
    kept = stream_all(staying)
    lost()
    assert dying.process.wait() == -signal.SIGKILL
    streams.assert_same(expected, kept)
    streams.assert_same(expected, stream_all(staying), "afterwards")
    cluster.wait_idle()  # what the dead one held is free again
    assert staying.end() == 0
    cluster.check_and_end()


def test_several_loops_are_one_gateway(cluster, tmp_path):
    keys = tmp_path / "access.toml"
    access_file(keys, {"all": {"concurrency": 3}}, {"sk-all": "all"})
    gateway = Gateway(cluster, "loops", loops=4, access_file=str(keys), admin_port=0).wait_ready()
    assert f"listening for operators on {gateway.admin}" in gateway.log()
    headers = {"authorization": "Bearer sk-all"}
    stop = threading.Event()

    def scrape():
        seen = 0
        while not stop.is_set():
            m = gateway.metrics()
            ends = ("completed_total", "failed_total", "rejected_total", "cancelled_total",
                    "in_flight")
            assert m["pdserve_requests_received_total"] == sum(
                m[f"pdserve_requests_{end}"] for end in ends), m
            assert m["pdserve_requests_in_flight"] >= 0
            seen += 1
        return seen
    scraping = in_background(scrape)
    try:
        # A new connection each: the kernel deals them out over the loops.
        statuses = []
        for _ in range(12):
            # Connected before and sent in one go: so that they overlap however fast an answer is.
            connections = [http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)
                           for _ in range(8)]
            for connection in connections:
                connection.connect()
            for connection in connections:
                connection.request("POST", "/v1/completions", json.dumps(
                    {"prompt": "Once", "max_tokens": 300, "ignore_eos": True}), headers)
            for connection in connections:
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
                connection.close()
    finally:
        stop.set()
    assert scraping() > 5
    assert set(statuses) == {200, 429}, "the tenant's three at once count over all loops"
    assert gateway.metrics()["pdserve_requests_completed_total"] == statuses.count(200)
    find_and_cancel_on_every_loop(cluster, gateway, headers)
    assert gateway.end() == 0
    cluster.check_and_end()


def test_health_follows_the_instances(start_cluster):
    """A gateway whose only P has died says so to its load balancer, and takes it back by itself."""
    cluster = start_cluster(prefill=1, decode=1)
    gateway = Gateway(cluster, "idle", loops=2).wait_ready()

    def status():
        answer = httpx.get(f"{gateway.url}/health")
        return answer.status_code, answer.json()["status"]
    patience = cluster.program.patience
    (prefill,) = cluster.instances("prefill")
    cluster.signal_pid("controller", signal.SIGSTOP)  # which would replace it
    try:
        cluster.kill(prefill)
        wait_until(lambda: status() == (503, "no instances"), 5 * patience, gateway.log)
        time.sleep(2.5)  # looked for, more than once
        assert status() == (503, "no instances")
        assert gateway.log().count("opened again when it answers") <= 2, gateway.log()
    finally:
        cluster.signal_pid("controller", signal.SIGCONT)
    wait_until(lambda: status() == (200, "ok"), 20 * patience, gateway.log)
    assert gateway.end() == 0
    cluster.check_and_end()


def find_and_cancel_on_every_loop(cluster, gateway, headers):
    """Whichever loop has a request: the operator finds and ends it."""
    def ctl(*words):
        done = cluster.program.run("ctl", "--admin", gateway.admin, "--key-file",
                                   cluster.directory / "secret", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    decodes = cluster.instances("decode")
    cluster.signal_pid("controller", signal.SIGSTOP)  # which would replace the frozen
    for decode in decodes:
        cluster.freeze(decode)
    try:
        with httpx.Client(timeout=60) as http:
            for _ in range(3):
                for _ in range(3):
                    with http.stream("POST", f"{gateway.url}/v1/completions", headers={
                            **headers, "connection": "close"},
                            json={"prompt": "Once", "max_tokens": 100, "stream": True,
                                  "ignore_eos": True}) as response:
                        lines = response.iter_lines()
                        first = next(line for line in lines if line.startswith("data: "))
                        request = json.loads(first[6:])["id"]
                        assert request in ctl("where", request)
                        assert request in ctl("requests")
                        ctl("cancel", request)
                        rest = "\n".join(lines)
                        assert "[DONE]" not in rest and '"error"' in rest
    finally:
        for decode in decodes:
            cluster.thaw(decode)
        cluster.signal_pid("controller", signal.SIGCONT)


def test_restarts_lose_nothing(cluster, tmp_path):
    place = str(tmp_path / "handover")
    first = Gateway(cluster, "g0", handover_socket=place, loops=2, admin_port=0).wait_ready()
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    # A configuration of its port: the next ones ask for what the first was given.
    port = int(first.port)
    expected = stream_all(first)
    streams.assert_complete(expected)
    stop = threading.Event()
    spans = []  # when streams began and ended

    def stream():
        while not stop.is_set():
            begin = time.monotonic()
            streams.assert_same(expected, stream_all(first))
            spans.append((begin, time.monotonic()))

    def ask(client):
        answered = 0
        while not stop.is_set():
            answer = client()(f"{first.url}/v1/completions", timeout=60,
                              json={"prompt": "Once", "max_tokens": 2})
            assert answer.status_code == 200, answer.text
            answered += 1
        return answered

    kept = httpx.Client()
    work = [in_background(stream), in_background(lambda: ask(lambda: httpx.post)),
            in_background(lambda: ask(lambda: kept.post))]
    serving, restarts = first, []
    try:
        for number, loops in enumerate((2, 1, 3, 2, 2), start=1):
            done = len(spans)
            wait_until(lambda: len(spans) > done, 60 * cluster.program.patience, "streams go on")
            restarts.append(time.monotonic())
            following = Gateway(cluster, f"g{number}", handover_socket=place, loops=loops,
                                port=port, admin_port=0).wait_serving()
            assert following.port == first.port and following.health()["status"] == "ok"
            serving.wait_end()
            assert "another process has taken over" in serving.log()
            serving = following
    finally:
        stop.set()
    answered = [job() for job in work]
    assert min(answered[1:]) > 10, answered
    assert all(any(a < t < b for a, b in spans) for t in restarts[:-1]), "streams lived through them"
    assert serving.end() == 0
    assert not os.path.exists(place)
    cluster.check_and_end()


@pytest.mark.parametrize("limit, complete", [("600s", True), ("300ms", False)])
def test_sigterm_gives_what_is_in_flight_its_time(cluster, limit, complete):
    gateway = Gateway(cluster, "ending", drain_limit=limit).wait_ready()
    decodes = cluster.instances("decode")
    body = {"prompt": "Once", "max_tokens": 480, "ignore_eos": True, "stream": True}
    if not complete:  # the first token comes, and no other
        freeze_all(cluster, decodes)
    with httpx.stream("POST", f"{gateway.url}/v1/completions", json=body, timeout=120) as response:
        lines = response.iter_lines()
        next(lines)
        gateway.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    if complete:
        assert rest[-1] == "data: [DONE]" and '"error"' not in "".join(rest)
    else:
        assert "data: [DONE]" not in rest and "shuts down" in rest[-1], rest[-3:]
        thaw_all(cluster, decodes)
    assert gateway.process.wait(timeout=60 * cluster.program.patience) == 0
    cluster.check_and_end()


def test_a_successor_that_cannot_serve_changes_nothing(cluster, tmp_path):
    place = str(tmp_path / "handover")
    gateway = Gateway(cluster, "old", handover_socket=place).wait_ready()
    # It never hears of an instance: the one that serves must go on.
    lost = Gateway(cluster, "lost", controller="127.0.0.1:1", handover_socket=place,
                   port=int(gateway.port))
    wait_until(lambda: "taken over" in lost.log(), 20 * cluster.program.patience, lost.log)
    for _ in range(20):
        assert httpx.get(f"{gateway.url}/health").status_code == 200
    lost.process.kill()
    lost.process.wait()
    for _ in range(20):
        assert httpx.get(f"{gateway.url}/health").status_code == 200
    following = Gateway(cluster, "next", handover_socket=place, port=int(gateway.port))
    following.wait_serving()
    gateway.wait_end()
    assert following.health()["status"] == "ok"
    assert following.end() == 0
    cluster.check_and_end()


@pytest.mark.parametrize("what, words", [("file", "a file is in the way"),
                                         ("folder", "cannot listen on"),
                                         ("long", "is no path for a socket")])
def test_a_place_that_cannot_be_used_is_named(cluster, tmp_path, what, words):
    place = {"file": tmp_path / "file", "folder": tmp_path / "none" / "handover",
             "long": tmp_path / ("x" * 200)}[what]
    if what == "file":
        place.write_text("")
    gateway = Gateway(cluster, "refused", handover_socket=str(place))
    assert gateway.process.wait(timeout=20 * cluster.program.patience) == 1
    assert words in gateway.log() and "handover_socket" in gateway.log(), gateway.log()
    cluster.check_and_end()
