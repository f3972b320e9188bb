"""What a tenant may ask for: what counts against it, what it is told, and that several gateways hold it together."""

import signal
import time

import httpx
import pytest

from harness.gateways import Gateway
from harness.processes import wait_until
from test_doors import access_file

KEYS = {"sk-many": "many", "sk-tokens": "tokens", "sk-text": "text"}
TENANTS = {"many": {"requests_per_minute": 20}, "tokens": {"tokens_per_minute": 6000},
           "text": {"requests_per_minute": 4, "concurrency": 2}}


@pytest.fixture
def cluster(start_cluster, tmp_path):
    access_file(tmp_path / "access.toml", TENANTS, KEYS)
    return start_cluster(config={"gateway": {"access_file": str(tmp_path / "access.toml")}})


def ask(url, key, path="/v1/completions", http=httpx, **body):
    if path == "/v1/completions":
        body = {"prompt": "Once upon", "max_tokens": 2, **body}
    return http.post(f"{url}{path}", timeout=60, json=body,
                     headers={"authorization": f"Bearer {key}"})


def test_four_gateways_hold_a_quota_together(cluster):
    further = [Gateway(cluster, f"g{i}", loops=2) for i in range(3)]
    urls = [cluster.gateway] + [gateway.wait_ready().url for gateway in further]

    def known():
        return [httpx.get(f"{url}/health").json()["gateways"] for url in urls]
    wait_until(lambda: known() == [4] * 4, 20 * cluster.program.patience, known)
    with httpx.Client() as http:
        statuses = [ask(urls[i % 4], "sk-many", http=http).status_code for i in range(200)]
    assert set(statuses) == {200, 429}
    assert 18 <= statuses.count(200) <= 26, statuses.count(200)
    # The number they know holds without the controller; those that end give their share to the others.
    cluster.signal_pid("controller", signal.SIGSTOP)
    further.pop().process.kill()
    assert further.pop().end() == 0
    assert [httpx.get(f"{url}/health").json()["gateways"] for url in urls[:2]] == [4, 4]
    cluster.signal_pid("controller", signal.SIGCONT)
    wait_until(lambda: [httpx.get(f"{url}/health").json()["gateways"] for url in urls[:2]] == [2, 2],
               20 * cluster.program.patience, "two are left")
    assert further.pop().end() == 0
    cluster.check_and_end()


def test_what_is_refused_does_not_count(cluster):
    for _ in range(50):
        assert ask(cluster.gateway, "sk-many", temperature=9).status_code == 400
    answer = ask(cluster.gateway, "sk-many")
    assert answer.status_code == 200
    assert int(answer.headers["x-ratelimit-remaining-requests"]) >= 19


def test_what_no_instance_took_costs_nothing(start_cluster, tmp_path):
    """Refused for want of a place, or left by its client while it waits: neither the request nor its prompt counts."""
    access_file(tmp_path / "access.toml", TENANTS, KEYS)
    cluster = start_cluster(config={"gateway": {"access_file": str(tmp_path / "access.toml"), "ttft_limit": "2s"}})
    prompt = [5] * 400
    prefills = cluster.instances("prefill")
    cluster.signal_pid("controller", signal.SIGSTOP)  # which would replace the frozen
    for prefill in prefills:
        cluster.freeze(prefill)
    try:
        for key in ("sk-many", "sk-tokens"):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{cluster.gateway}/v1/completions", json={"prompt": prompt}, timeout=0.5,
                           headers={"authorization": f"Bearer {key}"})
        many, tokens = ask(cluster.gateway, "sk-many"), ask(cluster.gateway, "sk-tokens", prompt=prompt, n=2)
    finally:
        for prefill in prefills:
            cluster.thaw(prefill)
        cluster.signal_pid("controller", signal.SIGCONT)
    assert {many.status_code, tokens.status_code} <= {429, 503}, (many.text, tokens.text)
    assert many.headers["x-ratelimit-remaining-requests"] == "20"
    assert tokens.headers["x-ratelimit-remaining-tokens"] == "6000"


def test_what_was_read_at_length_counts(cluster):
    long = "x" * 3000  # over 2 KiB: read by a thread of its own
    answers = [ask(cluster.gateway, "sk-many", temperature=9, user=long) for _ in range(25)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:20] == [400] * 20 and 429 in statuses, statuses
    assert int(answers[9].headers["x-ratelimit-remaining-requests"]) <= 13
    texts = [ask(cluster.gateway, "sk-text", "/tokenize", prompt=5, user=long).status_code for _ in range(6)]
    assert texts[:4] == [400] * 4 and 429 in texts, texts


def test_who_obeys_retry_after_comes_in(cluster):
    # An output longer than what is left overdraws the bucket.
    while (answer := ask(cluster.gateway, "sk-tokens", max_tokens=400, ignore_eos=True)).status_code == 200:
        pass
    prompt = "Once upon a time there was a little girl who had a cat. " * 5
    refused = ask(cluster.gateway, "sk-tokens", prompt=prompt)
    assert refused.status_code == 429, refused.text
    told = int(refused.headers["retry-after"])
    until = time.monotonic() + told
    wait_until(lambda: time.monotonic() >= until, told + 1, "the time it was told")
    answer = ask(cluster.gateway, "sk-tokens", prompt=prompt)
    assert answer.status_code == 200, answer.text


def test_what_is_left_includes_the_output(cluster):
    first = ask(cluster.gateway, "sk-tokens", max_tokens=100, ignore_eos=True)
    used = first.json()["usage"]["total_tokens"]
    assert used > 100
    # A token comes back every hundredth of a second.
    assert int(first.headers["x-ratelimit-remaining-tokens"]) <= 6000 - 100


def test_text_counts_as_requests(cluster):
    def text(path, **body):
        return ask(cluster.gateway, "sk-text", path, **body)
    answer = text("/tokenize", prompt="Once upon")
    assert answer.status_code == 200 and answer.headers["x-ratelimit-remaining-requests"] == "3"
    assert text("/detokenize", tokens=answer.json()["tokens"]).json()["prompt"].endswith("Once upon")
    assert text("/tokenize", prompt=5).status_code == 400  # it does not count
    assert [text("/tokenize", prompt="x").status_code for _ in range(3)] == [200, 200, 429]
    refused = text("/detokenize", tokens=[1])
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1


def test_text_is_bounded(cluster):
    secret = (cluster.directory / "secret").read_text().strip()
    long = ask(cluster.gateway, secret, "/tokenize", prompt="a b " * 200_000)
    assert long.status_code == 400 and "65536 tokens" in long.json()["error"]["message"]
    assert long.json()["error"]["param"] == "prompt"
    ids = ask(cluster.gateway, secret, "/detokenize", tokens=[5] * 65_537)
    assert ids.status_code == 400 and ids.json()["error"]["param"] == "tokens"
    assert ask(cluster.gateway, secret, "/detokenize", tokens=[5] * 65_536).status_code == 200
    most = ask(cluster.gateway, secret, "/tokenize", prompt="a b " * 10_000)
    assert most.status_code == 200 and 20_000 <= most.json()["count"] <= 65_536
