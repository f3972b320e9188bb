"""A request's absolute deadline, [gateway] request_limit: kept whatever stalls, and told with what it was that
stalled; nothing of the request stays (G16)."""

import contextlib
import json
import threading

import pytest

from harness import streams
from harness.background import in_background
from harness.processes import wait_until

LIMIT_S = 1.0  # below the time in which a silent instance is given up
LATE_S = 0.3
BODY = {"prompt": "Once upon a time there was a little girl. " * 8, "max_tokens": 300, "temperature": 0,
        "ignore_eos": True}


@pytest.fixture
def cluster(start_cluster, tmp_path):
    # The slowest kernels: an answer is long under way.
    return start_cluster(prefill=1, decode=1, config={
        "model": {"kernels": "reference"},
        "gateway": {"request_limit": f"{LIMIT_S:g}s", "ttft_limit": f"{LIMIT_S:g}s",
                    "access_log": str(tmp_path / "access.log")}})


@contextlib.contextmanager
def stalled(cluster, instance):
    cluster.freeze(instance)
    try:
        yield
    finally:
        cluster.thaw(instance)


def last_line(cluster):
    path = cluster.config["gateway"]["access_log"]

    def lines():
        with open(path, encoding="utf-8") as log:
            return log.read().splitlines()
    wait_until(lines, 5 * cluster.program.patience, "a line in the access log")
    return json.loads(lines()[-1])


def check_told(cluster, outcome, stage, doing):
    patience = cluster.program.patience
    assert outcome.error["code"] == "deadline_exceeded" and doing in outcome.error["message"], outcome
    assert LIMIT_S <= outcome.seconds <= LIMIT_S + LATE_S * patience, outcome
    line = last_line(cluster)
    assert line["error"] == "deadline_exceeded" and line["stage"] == stage, line
    stages = line["stages_ms"]
    assert max(stages, key=stages.get) == stage, line
    assert abs(sum(stages.values()) - line["total_ms"]) < 0.01 * line["total_ms"], line


def stage_counts(cluster):
    text = cluster.http.get(f"{cluster.gateway}/metrics").text
    counts = [line.split() for line in text.splitlines() if line.startswith("pdserve_stage_seconds_count")]
    return {name.split('"')[1]: int(float(value)) for name, value in counts}


@pytest.mark.parametrize("stream", [False, True])
def test_a_prefill_that_stalls(cluster, stream):
    (prefill,) = cluster.instances("prefill")
    with stalled(cluster, prefill):
        (outcome,) = streams.completions(cluster, [{**BODY, "stream": stream}])
    assert outcome.status == 504, outcome
    check_told(cluster, outcome, "prefill", "being prefilled")
    assert stage_counts(cluster) == {"prepare": 1, "wait_prefill": 1, "prefill": 1, "wait_decode": 0,
                                     "join": 0, "decode": 0, "answer": 0}
    cluster.check_and_end()


def test_a_decode_instance_that_does_not_admit(cluster):
    (prefill,) = cluster.instances("prefill")
    (decode,) = cluster.instances("decode")
    with stalled(cluster, decode):
        (outcome,) = streams.completions(cluster, [{**BODY, "stream": False}])
        assert outcome.status == 504, outcome
        check_told(cluster, outcome, "join", "on the way to a decode instance")
        # While D hangs: the KV of what is over keeps nobody out of P.
        wait_until(lambda: set(cluster.held(prefill)) == {0}, cluster.program.patience,
                   lambda: f"P holds {cluster.held(prefill)}")
    cluster.check_and_end()


def test_a_decode_that_stalls(cluster):
    (decode,) = cluster.instances("decode")
    begun = threading.Event()
    join = in_background(lambda: streams.completions(
        cluster, [{**BODY, "stream": True}], observe=lambda index, count: count >= 5 and begun.set()))
    assert begun.wait(10 * cluster.program.patience), cluster.logs()
    with stalled(cluster, decode):
        (outcome,) = join()
    assert outcome.status == 200 and not outcome.done, outcome
    check_told(cluster, outcome, "decode", "being decoded")
    cluster.check_and_end()
