"""More requests than places: each is answered, or told in time to come back (G9)."""

import json
import socket
import threading
import time

import httpx
import pytest

from harness import prompts, streams
from harness.processes import resident_mib, wait_until

TTFT_LIMIT_S = 1.0
# One prompt and two streams at a time: a hundred clients wait for minutes of work.
TIGHT = {"gateway": {"ttft_limit": f"{int(TTFT_LIMIT_S * 1000)}ms"}, "prefill": {"slots": 1},
         "decode": {"batch": 2}}


def accepted(outcomes):
    return [o for o in outcomes if o.status == 200]


@pytest.mark.parametrize("stream", [True, False], ids=["streams", "answers"])
def test_answered_or_429_in_time(start_cluster, stream):
    cluster = start_cluster(config=TIGHT)
    body = prompts.story(480)
    if not stream:
        body = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    (alone,) = streams.completions(cluster, [body])
    faults = cluster.metrics()["pdserve_leg_faults_total"]
    seen = streams.completions(cluster, [body] * 300)
    assert {o.status for o in seen} == {200, 429}, sorted(o.status for o in seen)
    streams.assert_same([alone] * len(accepted(seen)), accepted(seen))
    for o in seen:
        if o.status == 429:
            assert o.error["type"] == "rate_limit_error" and o.error["message"]
            assert 1 <= int(o.headers["retry-after"]) <= 60
            assert o.seconds <= (TTFT_LIMIT_S + 1.5) * cluster.program.patience
        elif stream:
            first = o.arrivals[0] - o.begin
            assert first <= (TTFT_LIMIT_S + 1.5) * cluster.program.patience
    m = cluster.check_metrics()
    assert m["pdserve_requests_failed_total"] == 0
    assert m["pdserve_leg_faults_total"] == faults  # busy is not broken
    cluster.check_and_end()


def test_a_full_kv_pool_serves_everybody_in_turn(start_cluster):
    """D's memory holds a few requests only: the others wait, or are placed again when it runs out;
    every answer is right."""
    blocks = 80  # of 16 tokens: two and a half of the longest requests
    cluster = start_cluster(prefill=1, decode=2, config={
        "decode": {"kv_memory": f"{blocks * 16 * 5 * 2 * 4 * 8 * 4}B"}, "prefill": {"slots": 16}})
    total = {i.id: cluster.ask(i)["blocks_total"] for i in cluster.instances("decode")}
    assert set(total.values()) == {blocks}, total
    bodies = prompts.bodies(7, 30, tokens=300, prompt_tokens=(1, 200))
    expected = [streams.completions(cluster, [body])[0] for body in bodies]
    streams.assert_complete(expected)
    streams.assert_same(expected, streams.completions(cluster, bodies))
    cluster.check_and_end()


def test_requests_larger_than_the_pool_are_told_so_at_the_door(start_cluster, make_api):
    """24 blocks: 384 tokens of the model's 512. Nobody works for what they can never hold, and none of
    those beside it loses its place."""
    cluster = start_cluster(config={"decode": {"kv_memory": f"{24 * 16 * 5 * 2 * 4 * 8 * 4}B"}})
    cluster.wait_complete()
    api = make_api(cluster)
    assert api.http.get("/v1/models").json()["data"][0]["max_model_len"] == 384
    assert api.post("/tokenize", prompt="hi").json()["max_model_len"] == 384
    neighbours = [prompts.story(40, prompt=[1, 40 + i] * 10) for i in range(4)]
    seen = streams.completions(cluster, [
        prompts.story(440, prompt=[7] * 60), prompts.story(325, prompt=[7] * 60),
        prompts.story(8, prompt=[1] * 400), *neighbours])
    for refused in seen[:3]:
        assert refused.status == 400, refused
        assert refused.error["code"] == "context_length_exceeded", refused.error
        assert "384 tokens" in refused.error["message"], refused.error
        assert "[decode] kv_memory" in refused.error["message"], refused.error
    streams.assert_complete(seen[3:])
    assert cluster.metrics()["pdserve_evictions_total"] == 0
    # To the last token that it holds; and as long as it can where nothing is asked for.
    streams.assert_complete(streams.completions(cluster, [prompts.story(324, prompt=[7] * 60)]))
    chat = api.post("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}],
                    ignore_eos=True).json()
    if "error" in chat:
        assert chat["error"]["code"] == "no_chat_template", chat
    else:
        assert chat["usage"]["total_tokens"] == 384, chat["usage"]
    cluster.check_and_end()


def test_huge_prompts_hold_up_nobody(start_cluster):
    """What is longer than the context is refused without being read to its end, and bodies that
    wait are bounded, whether their clients stay or leave."""
    cluster = start_cluster()
    pid = cluster.state["pids"]["gateway"]
    words = json.dumps({"prompt": "a" * 9_000_000}).encode()
    spaced = json.dumps({"prompt": "a b " * 2_250_000}).encode()
    address = cluster.gateway.removeprefix("http://").split(":")
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

    def send(body, leave):
        with socket.create_connection((address[0], int(address[1]))) as connection:
            connection.sendall(head % len(body) + body)
            if not leave:
                answer = connection.recv(65536)
                assert b" 400 " in answer or b" 429 " in answer, answer[:300]

    for leave in (True, False):
        threads = [threading.Thread(target=send, args=(body, leave)) for body in [words, spaced] * 10]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        small = httpx.post(f"{cluster.gateway}/v1/completions",
                           json={"prompt": "hi", "max_tokens": 2}, timeout=60)
        took = time.monotonic() - begin
        for thread in threads:
            thread.join()
        assert small.status_code in (200, 429), small.text
        assert took < 10 * cluster.program.patience, took
        assert resident_mib(pid) < 600 * cluster.program.patience
    wait_until(lambda: httpx.get(f"{cluster.gateway}/health").json()["requests_in_flight"] == 0, 20,
               "what was left behind is dropped")
    refused = httpx.post(f"{cluster.gateway}/v1/completions", content=words, timeout=60).json()
    assert refused["error"]["code"] == "context_length_exceeded", refused
    cluster.check_and_end()
