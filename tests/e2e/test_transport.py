"""Every way in which KV travels carries real requests."""

import pytest

from harness import prompts, streams


@pytest.fixture(scope="module")
def expected(start_shared_cluster, seed):
    bodies = prompts.bodies(seed + 100, 40, tokens=24)
    cluster = start_shared_cluster()
    outcomes = streams.completions(cluster, bodies)
    streams.assert_complete(outcomes)
    return bodies, outcomes


def pieces_and_bytes(cluster):
    m = cluster.metrics()
    return m["pdserve_handoffs_total"], m["pdserve_handoff_bytes_total"]


@pytest.mark.parametrize("wires", ["shm", "tcp"])
@pytest.mark.parametrize("mode", ["block-free", "block-fixed"])
def test_smoke_over(start_cluster, expected, wires, mode):
    bodies, outcomes = expected
    cluster = start_cluster(prefill=2, decode=2,
                            config={"transfer": {"wires": wires, "mode": mode}})
    seen = streams.completions(cluster, bodies)
    streams.assert_same(outcomes, seen)
    handoffs, moved = pieces_and_bytes(cluster)
    assert handoffs == len(bodies)
    tokens = sum(o.usage["prompt_tokens"] for o in seen)
    kv = tokens * 5 * 2 * 4 * 8 * 4  # layers, K and V, heads, head_dim, f32
    assert kv <= moved <= 1.05 * kv + 4096 * handoffs, (kv, moved)  # and a header each
    cluster.check_and_end()


@pytest.mark.parametrize("wires", ["shm", "tcp"])
def test_substitutes_connect_over(start_cluster, expected, wires):
    """Connections to the dead are dropped, those to their substitutes made (G4)."""
    bodies, outcomes = expected
    cluster = start_cluster(prefill=2, decode=1, config={"transfer": {"wires": wires}})
    for role in ("prefill", "decode", "prefill"):
        cluster.kill(cluster.instances(role)[0])
        streams.assert_same(outcomes, streams.completions(cluster, bodies), f"without a {role}")
        cluster.wait_complete()
    cluster.check_and_end()
