"""A client leaves at each stage of its request; afterwards nobody holds anything for it (G2)."""

import socket

import pytest

from harness import prompts, streams
from harness.faults import wait_in_flight
from harness.raw_client import RawClient as Client
from harness.processes import wait_until

# One token per engine step: a prefill of hundreds of tokens takes long enough to leave in it.
# Over TCP, P has to answer D's pull: a frozen P keeps a handoff under way.
# Slow kernels, so that every stage lasts longer than the test needs to see it.
CONFIG = {"model": {"kernels": "reference"}, "prefill": {"chunk_tokens": 1, "prefix_cache": "0B"}, "transfer": {"wires": "tcp"}}
EXPLICIT_S = 1.0  # G1: after an explicit end, everything is free within a second


@pytest.fixture(scope="module")
def shared(start_shared_cluster):
    return start_shared_cluster(config=CONFIG)


@pytest.fixture
def cluster(shared):
    shared.wait_idle()
    yield shared
    shared.wait_idle()
    shared.check_metrics()
    streams.assert_complete(streams.completions(shared, [prompts.story(10)]))


def wait_cancelled(client):
    wait_until(lambda: client.grown("pdserve_requests_cancelled_total") == 1,
               EXPLICIT_S * client.cluster.program.patience,
               lambda: f"not counted as cancelled: {client.cluster.metrics()}")


def wait_free(cluster, instance):
    wait_until(lambda: cluster.held(instance) == (0, 0, 0),
               EXPLICIT_S * cluster.program.patience,
               lambda: f"{instance} holds {cluster.held(instance)}")


def pair(cluster):
    return cluster.instances("prefill")[0], cluster.instances("decode")[0]


def test_before_accept(cluster):
    prefill, decode = pair(cluster)
    cluster.freeze(prefill)
    client = Client(cluster)
    wait_in_flight(cluster, 1)
    client.leave()
    wait_cancelled(client)
    cluster.thaw(prefill)
    wait_free(cluster, prefill)
    wait_free(cluster, decode)
    assert client.grown("pdserve_output_tokens_total") == 0


def test_during_prefill(cluster):
    prefill, decode = pair(cluster)
    for _ in range(3):
        begun = cluster.ask(prefill)["steps"]
        client = Client(cluster, prompt=[1] + [300] * 400)
        wait_until(lambda: cluster.ask(prefill)["steps"] > begun, 10, "prefill steps", pause=0)
        client.leave()
        wait_cancelled(client)
        wait_free(cluster, prefill)
        done = cluster.ask(prefill)["steps"] - begun
        assert 0 < done < 400, f"{done} steps: the prefill was not cut short"
        assert client.grown("pdserve_output_tokens_total") == 0
        assert client.grown("pdserve_handoffs_total") == 0
        wait_free(cluster, decode)


def test_while_the_kv_waits_for_d(cluster):
    prefill, decode = pair(cluster)
    cluster.freeze(decode)
    client = Client(cluster)
    client.read_until(b"data: ")
    assert cluster.held(prefill)[0] == 1
    client.leave()
    wait_cancelled(client)
    wait_free(cluster, prefill)  # without D's help
    cluster.thaw(decode)
    wait_free(cluster, decode)


def test_during_the_pull(cluster):
    """D has begun to pull from a P that hangs."""
    prefill, decode = pair(cluster)
    cluster.freeze(decode)
    client = Client(cluster, prompt=[1] + [300] * 200)
    client.read_until(b"data: ")
    cluster.freeze(prefill)
    cluster.thaw(decode)
    wait_until(lambda: cluster.held(decode)[1] == 1, 1.5, "D has accepted")
    assert client.grown("pdserve_handoffs_total") == 0
    client.leave()
    wait_cancelled(client)
    wait_free(cluster, decode)  # without P's help
    cluster.thaw(prefill)
    wait_free(cluster, prefill)
    assert client.grown("pdserve_handoffs_total") == 0


def test_during_decode(cluster):
    prefill, decode = pair(cluster)
    for tokens in (2, 10, 50):
        client = Client(cluster, max_tokens=400)
        for _ in range(tokens):
            client.received = client.received.partition(b"data: ")[2]
            client.read_until(b"data: ")
        client.leave()
        wait_cancelled(client)
        wait_free(cluster, decode)
        wait_free(cluster, prefill)


@pytest.mark.heavy
def test_storm(cluster, rng, scaled):
    """Nine of ten clients leave at random moments of their streams; the rest get their whole
    answers (G1b)."""
    for _ in range(scaled(3)):
        bodies = prompts.bodies(rng.randrange(2**40), 60, tokens=60, prompt_tokens=(1, 60))
        stay = set(rng.sample(range(60), 6))
        expected = streams.completions(cluster, [bodies[i] for i in sorted(stay)])
        streams.assert_complete(expected)
        moments = [rng.randrange(0, 40) for _ in bodies]

        def observe(index, count, stay=stay, moments=moments):
            if index not in stay and count >= moments[index]:
                raise streams.Leave
        seen = streams.completions(cluster, bodies, observe=observe)
        streams.assert_same(expected, [seen[i] for i in sorted(stay)])
        assert sum(o.left for o in seen) == 54
        cluster.wait_idle(EXPLICIT_S)


def test_half_closed_client_is_served(cluster):
    """A client that has only finished sending still wants its answer."""
    client = Client(cluster)
    client.socket.shutdown(socket.SHUT_WR)
    client.read_until(b"[DONE]")
    client.leave()
