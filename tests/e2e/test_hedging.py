"""[gateway] hedge_prefill: a slow prefill gets a second one, and costs nothing when it loses."""

import signal

import pytest

from harness import streams
from harness.background import in_background
from harness.processes import wait_until

BODY = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0, "stream": True,
        "logprobs": 1, "stream_options": {"include_usage": True}}


@pytest.fixture
def cluster(start_cluster):
    return start_cluster(prefill=2, decode=1, config={"gateway": {"hedge_prefill": "50ms"}})


def only(cluster, body=None):
    return streams.completions(cluster, [body or BODY])[0]


def test_the_first_of_two_counts_and_nothing_is_left(cluster):
    expected = only(cluster)
    streams.assert_complete([expected])
    before = cluster.metrics()
    # Which of the two it asks is the gateway's choice: the one that has the prefix, or any. Each is
    # frozen in turn, so that one of the rounds meets it, well below the 2 s after which a silent
    # instance is given up.
    prefills = cluster.instances("prefill")
    cluster.signal_pid("controller", signal.SIGSTOP)  # which would replace the frozen
    try:
        for number, frozen in enumerate(prefills * 3):
            cluster.freeze(frozen)
            asked = in_background(lambda n=number: only(
                cluster, {**BODY, "prompt": BODY["prompt"] + " in the land number " + str(n // 2)}))
            try:
                outcome = asked()
            finally:
                cluster.thaw(frozen)
            streams.assert_complete([outcome])
            assert outcome.seconds < 1.5 * cluster.program.patience, outcome.seconds
    finally:
        cluster.signal_pid("controller", signal.SIGCONT)
    after = cluster.metrics()

    def grown(name):
        return after[f"pdserve_{name}_total"] - before[f"pdserve_{name}_total"]
    assert grown("hedged_prefills") >= 1 and grown("hedged_prefills_won") >= 1, after
    assert grown("leg_faults") == 0 and grown("requests_failed") == 0
    streams.assert_same([expected], [only(cluster)], "afterwards")
    cluster.check_and_end()


def test_answers_are_the_same_whoever_computes_the_first_token(cluster):
    bodies = [{**BODY, "prompt": f"The little cat number {i} said", "seed": i, "temperature": 0.9}
              for i in range(12)]
    expected = streams.completions(cluster, bodies)
    streams.assert_complete(expected)
    prefills = cluster.instances("prefill")
    cluster.signal_pid("controller", signal.SIGSTOP)
    try:
        cluster.freeze(prefills[0])
        seen = in_background(lambda: streams.completions(cluster, bodies))
        wait_until(lambda: cluster.metrics()["pdserve_hedged_prefills_won_total"] > 0,
                   10 * cluster.program.patience, cluster.logs)
        cluster.thaw(prefills[0])
        streams.assert_same(expected, seen())
    finally:
        cluster.signal_pid("controller", signal.SIGCONT)
    cluster.check_and_end()
