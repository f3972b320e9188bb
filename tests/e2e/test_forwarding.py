"""[gateway] forwarding: which of several P's with a free slot gets a prompt."""

import random

import pytest

from harness import prompts, streams

SLOTS = 4
# Of a prompt, and steps of a P that computes one at a time. No whole block: no prefix decides.
TOKENS = 12


@pytest.mark.parametrize(("forwarding", "expected"), [("spread", [3, 3]), ("fill", [2, 4])])
def test_a_burst(start_cluster, forwarding, expected):
    """Six prompts at once for two P's of four slots: what each P says that it has computed."""
    cluster = start_cluster(prefill=2, decode=1, config={
        "gateway": {"forwarding": forwarding},
        "prefill": {"slots": SLOTS, "chunk_tokens": 1, "prefix_cache": "0B"}})
    cluster.wait_complete()
    prefills = cluster.instances("prefill")

    def steps():
        return [cluster.ask(instance)["steps"] for instance in prefills]
    before = steps()
    rng = random.Random(1)
    (outcome,) = streams.completions(cluster, [{
        "prompt": [prompts.ids(rng, TOKENS) for _ in range(sum(expected))], "max_tokens": 1}])
    assert outcome.status == 200, outcome.error
    computed = sorted((b - a) // TOKENS for a, b in zip(before, steps()))
    assert computed == expected
    cluster.check_and_end()
