"""Connections that a network has forgotten without a word (G28): found dead while they are idle, replaced before the
next request needs them; and what was under way on them goes on elsewhere."""

import pytest

from harness import prompts, streams
from harness.background import in_background
from harness.processes import wait_until
from harness.silence import silence

SILENCE_S = 3.0  # G1: in which a leg on a silent connection is given up


@pytest.fixture
def cluster(start_cluster):
    return start_cluster(prefill=2, decode=2, config={"model": {"kernels": "reference"}})


def silence_all(cluster):
    instances = [instance.pid for instance in cluster.instances()]
    gateway = cluster.state["pids"]["gateway"]
    assert silence(gateway, instances) >= len(instances), "a channel to each, and what asks after them"
    assert silence(gateway, [cluster.state["pids"]["controller"]]) >= 1


def opened_again(cluster):
    return cluster.logs(None).count("its channel is open again")


def test_idle_connections(cluster):
    streams.assert_complete(streams.completions(cluster, [prompts.story(16)] * 4))
    silence_all(cluster)
    wait_until(lambda: opened_again(cluster) == 4, (SILENCE_S + 1.0) * cluster.program.patience,
               lambda: f"{opened_again(cluster)} channels opened again\n{cluster.logs()}")
    outcomes = streams.completions(cluster, [prompts.story(16)] * 4)
    streams.assert_complete(outcomes)
    assert max(o.silence_max for o in outcomes) < 1.0 * cluster.program.patience
    metrics = cluster.check_metrics()
    assert metrics["pdserve_restarts_total"] == 0, "no request noticed"
    assert metrics["pdserve_requests_completed_total"] == 8
    cluster.check_and_end()


def test_connections_under_way(cluster, rng):
    bodies = prompts.bodies(rng.randrange(2**40), 8, tokens=300, prompt_tokens=(1, 120))
    expected = streams.completions(cluster, bodies)
    streams.assert_complete(expected)
    join = in_background(lambda: streams.completions(cluster, bodies))
    wait_until(lambda: any(cluster.held(d)[1] > 0 for d in cluster.instances("decode")),
               10 * cluster.program.patience, "streams at D")
    silence_all(cluster)
    seen = join()
    streams.assert_same(expected, seen)
    # One silence after the other: that of D, and that of the P that is asked next.
    assert max(o.silence_max for o in seen) < 2 * SILENCE_S * cluster.program.patience
    assert cluster.check_metrics()["pdserve_restarts_total"] > 0
    cluster.check_and_end()
