"""[gateway] keep_alive_after: a stream that has nothing to say says so (G23)."""

import contextlib
import json
import signal

import httpx
import openai
import pytest

from harness.background import in_background

COMMENT = ": keep-alive"
# A step for each token of the prompt: time enough to meet the prefill under way.
CONFIG = {"gateway": {"keep_alive_after": "100ms"}, "prefill": {"chunk_tokens": 1}}
BODY = {"prompt": "Once upon a time there was a little girl. " * 8, "max_tokens": 60, "temperature": 0,
        "ignore_eos": True, "stream": True}


@pytest.fixture
def cluster(start_cluster):
    return start_cluster(prefill=1, decode=1, config=CONFIG)


@contextlib.contextmanager
def without_substitutes(cluster):
    """A frozen instance is not replaced."""
    cluster.signal_pid("controller", signal.SIGSTOP)
    try:
        yield
    finally:
        cluster.signal_pid("controller", signal.SIGCONT)


def test_before_the_first_token(cluster):
    (prefill,) = cluster.instances("prefill")
    secret = (cluster.directory / "secret").read_text().strip()
    operator = httpx.Client(headers={"authorization": f"Bearer {secret}"})

    def prefilling():
        requests = operator.get(f"http://{cluster.state['admin']}/admin/v1/requests").json()["requests"]
        return any(entry["stage"] == "prefill" for entry in requests)

    def ask(first_token, http):
        body = {**BODY, "prompt": [first_token] + list(range(10, 460)), "max_tokens": 10}
        return http.send(http.build_request("POST", f"{cluster.gateway}/v1/completions", json=body),
                         stream=True)
    for attempt in range(20):  # one that is met while P works on it
        with without_substitutes(cluster), httpx.Client(timeout=60) as http:
            asked = in_background(lambda n=attempt: ask(300 + n, http))
            met = any(prefilling() for _ in range(50))
            if met:
                cluster.freeze(prefill)
                met = prefilling()
            lines = asked().iter_lines() if met else iter([])
            first = next((line for line in lines if line), "")
            cluster.thaw(prefill)
            rest = list(lines) if met else list(asked().iter_lines())
            assert "data: [DONE]" in rest, rest[-3:]
        if met and first == COMMENT:
            break
    assert first == COMMENT, first
    tokens = [line for line in rest if line.startswith("data: {")]
    assert json.loads(tokens[-1][6:])["choices"][0]["finish_reason"] == "length"


def test_between_tokens(cluster):
    (decode,) = cluster.instances("decode")
    client = openai.OpenAI(base_url=f"{cluster.gateway}/v1", api_key="none", timeout=60)
    fields = {"model": cluster.model, "prompt": BODY["prompt"], "max_tokens": 60, "temperature": 0,
              "extra_body": {"ignore_eos": True}}
    expected = client.completions.create(**fields).choices[0].text
    with without_substitutes(cluster):
        cluster.freeze(decode)
        with httpx.Client(timeout=60) as http, http.stream(
                "POST", f"{cluster.gateway}/v1/completions", json=BODY) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: "), "P's token"
            assert [next(line for line in lines if line) for _ in range(3)] == [COMMENT] * 3
            cluster.thaw(decode)
            assert "data: [DONE]" in list(lines)
        # A client library passes over them.
        cluster.freeze(decode)
        chunks = iter(client.completions.create(**fields, stream=True))
        text = next(chunks).choices[0].text
        thawing = in_background(lambda: wait_for_comments(cluster, decode))
        text += "".join(chunk.choices[0].text for chunk in chunks)
        thawing()
    assert text == expected
    cluster.check_and_end()


def wait_for_comments(cluster, decode):
    """Another stream beside says when one has been silent for as long."""
    with httpx.Client(timeout=60) as http, http.stream(
            "POST", f"{cluster.gateway}/v1/completions", json=BODY) as response:
        lines = response.iter_lines()
        next(line for line in lines if line == COMMENT)
        next(line for line in lines if line == COMMENT)
        cluster.thaw(decode)
        assert "data: [DONE]" in list(lines)
