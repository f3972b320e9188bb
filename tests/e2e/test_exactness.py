"""The same answer wherever it was computed: aggregated, disaggregated, over any pair, from the cache."""

import pytest

from harness import prompts, streams

AGGREGATED = {"prefill": 0, "decode": 0, "config": {"group": {"prefill": 0, "decode": 0, "both": 1}}}


@pytest.fixture(scope="module")
def requests(seed, scaled):
    return prompts.bodies(seed, scaled(200), tokens=32)


@pytest.fixture(scope="module")
def expected(start_shared_cluster, requests):
    """From one aggregated instance, one request after the other: nothing shares a batch."""
    cluster = start_shared_cluster(**AGGREGATED)
    outcomes = [streams.completions(cluster, [body])[0] for body in requests]
    streams.assert_complete(outcomes)
    assert len({str(outcome.texts) for outcome in outcomes}) > len(outcomes) // 2  # not trivial
    return cluster, outcomes


def test_batched_equals_alone(expected, requests):
    cluster, alone = expected
    streams.assert_same(alone, streams.completions(cluster, requests))


@pytest.mark.heavy
@pytest.mark.parametrize("prefill, decode, config", [
    (1, 1, {}),
    (2, 2, {}),
    (1, 1, {"prefill": {"chunk_tokens": 7, "prefix_cache": "0B"}, "decode": {"batch": 3}}),
    (2, 1, {"worker": {"threads": 2}, "transfer": {"wires": "tcp"}}),
], ids=["1P1D", "2P2D", "chunks-of-7", "two-threads-tcp"])
def test_disaggregated_equals_aggregated(start_cluster, expected, requests, prefill, decode, config):
    cluster = start_cluster(prefill=prefill, decode=decode, config=config)
    first = streams.completions(cluster, requests)
    streams.assert_complete(first)
    streams.assert_same(expected[1], first, "on the first pass")
    again = streams.completions(cluster, requests)
    streams.assert_same(expected[1], again, "with a warm prefix cache")
    cached = sum(o.usage["prompt_tokens_details"]["cached_tokens"] for o in again)
    if config.get("prefill", {}).get("prefix_cache") == "0B":
        assert cached == 0
    else:
        assert cached > 0
    # Most requests are finished on another instance than the one that began them.
    moved = cluster.metrics()["pdserve_handoffs_total"]
    assert moved == 2 * len(requests), moved
    cluster.check_and_end()


def test_whole_answers_equal_streams(expected, requests):
    """Without streaming: the same text, usage and log-probabilities in one JSON object."""
    cluster, outcomes = expected
    plain = [{k: v for k, v in body.items() if k not in ("stream", "stream_options")}
             for body in requests[:40]]
    for body, outcome in zip(plain, outcomes):
        answer = cluster.http.post(f"{cluster.gateway}/v1/completions", json=body).json()
        (choice,) = answer["choices"]
        assert choice["text"] == outcome.texts[0]
        assert choice["finish_reason"] == outcome.finishes[0]
        if "logprobs" in body:
            assert choice["logprobs"]["tokens"] == outcome.tokens[0]
            assert choice["logprobs"]["token_logprobs"] == outcome.logprobs[0]
        assert answer["usage"]["completion_tokens"] == outcome.usage["completion_tokens"]
