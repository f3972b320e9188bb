"""Groups of prefill and aggregated instances: each request whole or apart, the same answers (G12)."""

import pytest

from harness import prompts, streams


def start(start_cluster, mode, **keys):
    group = {"prefill": 1, "decode": 0, "both": 1, "whole": mode, **keys}
    return start_cluster(prefill=1, decode=0, config={"group": group},
                         arguments=["--prefill", "1", "--decode", "0", "--both", "1"])


def served_whole(cluster):
    return cluster.metrics()["pdserve_decoded_where_prefilled_total"]


@pytest.fixture(scope="module")
def bodies():
    return prompts.bodies(9, 24, tokens=24, prompt_tokens=(1, 400))


def test_each_way_gives_the_same_answers(start_cluster, bodies):
    seen = {}
    for mode, keys in (("off", {}), ("auto", {}), ("threshold", {"whole_tokens": 64})):
        cluster = start(start_cluster, mode, **keys)
        one_by_one = [streams.completions(cluster, [body])[0] for body in bodies]
        whole = served_whole(cluster)
        if mode == "off":
            assert whole == 0
        elif mode == "auto":  # nobody else is there to be disturbed
            assert whole >= 0.8 * len(bodies), whole
        else:
            short = sum(o.usage["prompt_tokens"] <= 64 for o in one_by_one)
            assert 0 < short < len(bodies) and whole == short, (whole, short)
        at_once = streams.completions(cluster, bodies)
        for outcomes in (one_by_one, at_once):
            streams.assert_complete(outcomes)
            streams.assert_same(seen.setdefault("first", outcomes), outcomes, mode)
        cluster.check_and_end()


def test_each_kind_is_replaced_when_it_dies(start_cluster, bodies):
    cluster = start(start_cluster, "threshold", whole_tokens=64)
    expected = streams.completions(cluster, bodies)
    for role in ("both", "prefill"):
        (victim,) = cluster.instances(role)
        cluster.kill(victim)
        streams.assert_same(expected, streams.completions(cluster, bodies), f"{role} killed")
        cluster.wait_complete()
    cluster.check_and_end()
