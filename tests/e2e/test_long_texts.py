"""Bodies whose reading takes long: nobody else waits for them, every one of them is accounted for."""

import json
import time

import httpx
import pytest

from harness.background import in_background
from harness.gateways import Gateway
from harness.processes import wait_until
from test_doors import access_file

# Over 2 KiB: shorter ones are read at once.
PROMPT = {"prompt": "Once upon a time", "max_tokens": 2, "user": "x" * 3000}


def keys(count):
    return {f"k{i}": 0 for i in range(count)}


def chat(**extra):
    return json.dumps({"messages": [{"role": "user", "content": "x", **extra}]},
                      separators=(",", ":")).encode()


# As much work as a body of less than 10 MB may be.
HEAVY = chat(parts=[keys(1000)] * 1000)


@pytest.fixture
def cluster(start_cluster):
    return start_cluster()


def post(gateway, path, body, limit=60, key="none"):
    return httpx.post(f"{gateway.url}{path}", content=body, timeout=limit * gateway.program.patience,
                      headers={"content-type": "application/json", "authorization": f"Bearer {key}"})


def test_a_million_keys_hold_nobody_up(cluster):
    gateway = Gateway(cluster, "keys", loops=1).wait_ready()
    endless = chat(**keys(700_000))
    assert len(endless) > 8_000_000
    heavy = [in_background(lambda: post(gateway, "/v1/chat/completions", endless)) for _ in range(3)]
    for _ in range(3):
        answer = post(gateway, "/v1/completions", json.dumps(PROMPT), limit=10)
        assert answer.status_code == 200, answer.text
    for job in heavy:
        answer = job()
        assert answer.status_code == 400 and "1024 keys" in answer.json()["error"]["message"]
    # Nor does a gateway that ends wait for them.
    def lose():
        try:
            post(gateway, "/v1/chat/completions", HEAVY)
        except httpx.TransportError:
            pass
    jobs = [in_background(lose) for _ in range(3)]
    wait_until(lambda: gateway.metrics()["pdserve_requests_received_total"] >= 7, 20, "they are there")
    assert gateway.end(limit=15) == 0
    for job in jobs:
        job()
    cluster.check_and_end()


def test_a_tenant_waits_for_one_text_of_another_at_most(cluster, tmp_path):
    access_file(tmp_path / "access.toml", {"hog": {}, "other": {}}, {"sk-hog": "hog", "sk-other": "other"})
    gateway = Gateway(cluster, "fair", loops=1, access_file=str(tmp_path / "access.toml")).wait_ready()
    # Together less than the half of 64 MiB that one tenant may have there.
    heavy = [in_background(lambda: post(gateway, "/v1/chat/completions", HEAVY, key="sk-hog"))
             for _ in range(3)]
    wait_until(lambda: gateway.metrics()["pdserve_requests_in_flight"] == 3, 20, "they wait")
    answer = post(gateway, "/v1/completions", json.dumps(PROMPT), key="sk-other")
    left = gateway.metrics()["pdserve_requests_in_flight"]
    assert answer.status_code == 200, answer.text
    assert left >= 1, "it was read after all of them"
    assert [job().status_code for job in heavy] == [400] * 3  # it has no chat template
    assert gateway.end() == 0
    cluster.check_and_end()


def test_who_waits_for_a_text_thread_is_told_in_time(cluster):
    patient = Gateway(cluster, "patient", loops=1).wait_ready()
    hurried = Gateway(cluster, "hurried", loops=1, ttft_limit="1ms").wait_ready()
    begin = time.monotonic()
    assert post(patient, "/v1/chat/completions", HEAVY).status_code == 400  # it has no chat template
    whole = time.monotonic() - begin
    begin = time.monotonic()
    answer = post(hurried, "/v1/chat/completions", HEAVY)
    told = time.monotonic() - begin
    assert answer.status_code == 429 and answer.json()["error"]["code"] == "busy", answer.text
    assert int(answer.headers["retry-after"]) >= 1
    # Its thread is still at it.
    assert told < whole / 2, (told, whole)
    assert patient.end() == 0 and hurried.end() == 0
    cluster.check_and_end()


def test_who_leaves_while_a_prompt_is_read_has_a_line(cluster, tmp_path):
    log = tmp_path / "access.log"
    gateway = Gateway(cluster, "left", loops=2, access_log=str(log)).wait_ready()
    leavers = [in_background(lambda: pytest.raises(
        httpx.ReadTimeout, httpx.post, f"{gateway.url}/v1/chat/completions", content=HEAVY,
        timeout=httpx.Timeout(60, read=0.001))) for _ in range(8)]
    stayers = [in_background(lambda: post(gateway, "/v1/completions", json.dumps(PROMPT)))
               for _ in range(8)]
    for job in leavers:
        job()
    assert [job().status_code for job in stayers] == [200] * 8
    wait_until(lambda: gateway.metrics()["pdserve_requests_in_flight"] == 0, 20, "all have ended")
    metrics = gateway.metrics()
    assert gateway.end() == 0  # the log is written to its end
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(entries) == metrics["pdserve_requests_received_total"] == 16
    left = [entry for entry in entries if entry["status"] == 499]
    assert len(left) == metrics["pdserve_requests_cancelled_total"] >= 1
    assert {entry["error"] for entry in left} == {"client_left"}
    assert len({entry["id"] for entry in entries}) == 16
    cluster.check_and_end()
