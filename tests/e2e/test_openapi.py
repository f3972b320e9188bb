"""Every answer and every chunk against OpenAI's API description, and requests drawn from a seed: what
is right is served, what is wrong is refused with the name of the field."""

import contextlib
import json
import re
import shutil

import httpx
import pytest

from harness import api_requests, openapi, prompts, raw_http
from harness.api_requests import CHAT, COMPLETION
from harness.raw_client import RawClient

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def model(program, tmp_path_factory):
    """The tiny model with a chat template."""
    folder = tmp_path_factory.mktemp("model") / "tiny-chat"
    shutil.copytree(program.model, folder, ignore=lambda _, names: [n for n in names
                                                                    if n.endswith(".gguf")])
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": TEMPLATE}))
    return str(folder)


@pytest.fixture(scope="module")
def cluster(start_shared_cluster, model):
    return start_shared_cluster(model=model)


@pytest.fixture(scope="module")
def endpoints(cluster):
    return {path: api_requests.Endpoint(path, cluster.model) for path in (CHAT, COMPLETION)}


# ---- what an answer must be ----


def check_answer(path, body, value):
    schema = "CreateChatCompletionResponse" if path == CHAT else "CreateCompletionResponse"
    if body.get("echo"):
        value = openapi.without_first_of_echo(value)
    openapi.check(value, openapi.answer_validator(schema))
    assert [choice["index"] for choice in value["choices"]] == list(range(len(value["choices"])))
    check_usage(value["usage"])
    return len(value["choices"])


def check_usage(usage):
    assert usage["prompt_tokens"] >= 1 and usage["completion_tokens"] >= 0, usage
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], usage


def events_of(text):
    """Chunks of a stream that is whole; each event is one line of data."""
    *events, last, rest = text.split("\n\n")
    assert (last, rest) == ("data: [DONE]", ""), text[-300:]
    assert all(event.startswith("data: {") and "\n" not in event for event in events), text[:300]
    return [openapi.parse(event.removeprefix("data: ")) for event in events]


def check_chunks(path, body, chunks):
    against = (openapi.answer_validator("CreateChatCompletionStreamResponse") if path == CHAT
               else openapi.completion_chunk_validator())
    finished = {}
    options = body.get("stream_options") or {}
    for chunk in chunks:
        if body.get("echo"):
            chunk = openapi.without_first_of_echo(chunk)
        openapi.check(chunk, against)
        assert len(chunk["choices"]) <= 1
        for choice in chunk["choices"]:
            assert choice["index"] not in finished, chunk
            if choice["finish_reason"]:
                finished[choice["index"]] = choice["finish_reason"]
        if chunk.get("usage"):
            check_usage(chunk["usage"])
        assert ("usage" in chunk) <= any(options.values()), chunk
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    if options.get("include_usage"):
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]
    else:
        assert all(chunk["choices"] for chunk in chunks)
    assert sorted(finished) == list(range(len(finished)))
    return len(finished)


def check_served(endpoint, body, answer):
    assert answer.status_code == 200, (body, answer.text)
    if body.get("stream"):
        assert answer.headers["content-type"].startswith("text/event-stream")
        count = check_chunks(endpoint.path, body, events_of(answer.text))
    else:
        assert answer.headers["content-type"] == "application/json"
        count = check_answer(endpoint.path, body, openapi.parse(answer.text))
    assert count == endpoint.choices(body), (body, answer.text)


def check_refused(body, culprits, answer):
    assert 400 <= answer.status_code < 500, (body, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    param = openapi.check_error(openapi.parse(answer.text))["param"] or ""
    # `messages[0].content` is of `messages`.
    assert param in culprits or re.split(r"[.\[]", param)[0] in culprits, \
        (body, culprits, answer.text)


# ---- by hand: what the generator draws too rarely ----


@pytest.mark.parametrize("path, fields", [
    (path, {**more, **streamed})
    for path in (CHAT, COMPLETION)
    for streamed in ({}, {"stream": True},
                     {"stream": True, "stream_options": {"include_usage": True}},
                     {"stream": True, "stream_options": {"continuous_usage_stats": True}})
    for more in ({}, {"n": 3}, {"stop": "e"}, {"max_tokens": 1}, {"logit_bias": {"2": 100}},
                 {"logprobs": True, "top_logprobs": 3} if path == CHAT else {"logprobs": 3},
                 {"logprobs": True, "n": 2} if path == CHAT else
                 {"logprobs": 0, "echo": True, "n": 2, "prompt": ["Once", [1, 400]]},
                 {} if path == CHAT else {"echo": True, "max_tokens": 2})])
def test_answers(cluster, endpoints, path, fields):
    body = {"max_tokens": 12, **fields}
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": "Tell me a story."}]
    else:
        body.setdefault("prompt", "Once upon a time")
    answer = cluster.http.post(f"{cluster.gateway}{path}", json=body)
    check_served(endpoints[path], body, answer)


def test_context(cluster):
    """Without a limit the output ends where the context does."""
    lengths = []
    for letters in range(475, 500):
        body = {"messages": [{"role": "user", "content": "x" * letters}], "ignore_eos": True}
        answer = cluster.http.post(f"{cluster.gateway}{CHAT}", json=body)
        if answer.status_code == 200:
            lengths.append(answer.json()["usage"]["prompt_tokens"])
            assert answer.json()["usage"]["total_tokens"] == prompts.CONTEXT
        else:
            assert openapi.check_error(answer.json())["param"] == "messages"
    assert max(lengths) == prompts.CONTEXT - 1


def test_lists(cluster):
    models = cluster.http.get(f"{cluster.gateway}/v1/models").json()
    one = cluster.http.get(f"{cluster.gateway}/v1/models/{cluster.model}").json()
    assert models["data"] == [one]
    assert models["data"][0].pop("max_model_len") == prompts.CONTEXT  # beside OpenAI's
    openapi.check(models, openapi.answer_validator("ListModelsResponse"))


@pytest.mark.parametrize("method, path, content, status", [
    ("GET", "/", b"", 404), ("GET", COMPLETION, b"", 405), ("POST", COMPLETION, b"", 400),
    ("POST", COMPLETION, b"{", 400), ("POST", CHAT, b"[]", 400), ("POST", "/tokenize", b"{}", 400),
    ("POST", "/detokenize", b"{}", 400), ("GET", "/v1/models/other", b"", 404),
    ("POST", COMPLETION, b" " * (11 << 20), 413)])
def test_errors(cluster, method, path, content, status):
    answer = cluster.http.request(method, f"{cluster.gateway}{path}", content=content)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    openapi.check_error(answer.json())


@pytest.mark.parametrize("data, status", [
    (b"nonsense\r\n\r\n", 400), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200000, 431),
    (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n", 417),
    (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501)])
def test_errors_of_the_protocol(cluster, data, status):
    with raw_http.Connection(cluster) as connection:
        connection.send(data)
        answer = connection.take()
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    openapi.check_error(json.loads(answer.body))


def test_error_event(start_cluster):
    """After the first byte the error is an event, and no [DONE] follows."""
    cluster = start_cluster(config={"gateway": {"ttft_limit": "2s", "request_limit": "2s"}})
    for instance in cluster.instances("decode"):
        cluster.freeze(instance)
    client = RawClient(cluster)
    client.read_until(b"data: ")  # the first token is the prefill instance's
    client.read_until(b"\r\n0\r\n\r\n")  # the last chunk; the connection goes on
    text = client.received.decode()
    for instance in cluster.instances("decode"):
        cluster.thaw(instance)
    event = text[text.index("event: error\n"):].split("\n\n")[0]
    assert openapi.check_error(json.loads(event.split("data: ")[1]))["code"] == "deadline_exceeded"
    assert "[DONE]" not in text


# ---- what is drawn from a seed ----


@pytest.fixture
def http(cluster):
    with httpx.Client(base_url=cluster.gateway, timeout=60 * cluster.program.patience) as client:
        yield client


@pytest.fixture
def drawn(request, scaled):
    """How many requests of one kind at one endpoint."""
    count = request.config.getoption("--requests")
    return scaled(200) if count is None else -(-count // 2)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_valid_requests(http, endpoints, drawn, rng, path):
    for _ in range(drawn):
        body = api_requests.valid(rng, endpoints[path])
        check_served(endpoints[path], body, http.post(path, json=body))


@pytest.mark.heavy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_invalid_requests(http, endpoints, drawn, rng, path):
    for _ in range(drawn):
        body = api_requests.invalid(rng, endpoints[path])
        check_refused(body, endpoints[path].culprits(body), http.post(path, json=body))
    assert http.post(COMPLETION, json=prompts.story(4, stream=False, stream_options=None)).is_success


# ---- the same bytes, wherever they were computed ----


def start_without_cache(start, model, **options):
    """How many tokens came from a cache depends on where earlier requests were computed."""
    config = {"prefill": {"prefix_cache": "0B"}, **options.pop("config", {})}
    return start(model=model, config=config, **options)


@pytest.fixture(scope="module")
def both_ways(start_shared_cluster, model):
    """One instance that does both, and a prefill and a decode instance."""
    one = {"prefill": 0, "decode": 0, "config": {"group": {"prefill": 0, "decode": 0, "both": 1}}}
    return [start_without_cache(start_shared_cluster, model, **one),
            start_without_cache(start_shared_cluster, model)]


def comparable(text):
    """An answer's bytes less id and time; the chunks of a stream choice by choice, since those of
    several choices mix as they come."""
    text = re.sub(r'"id":"(chatcmpl|cmpl)-[0-9a-f]{32}"', '"id":""', text)
    text = re.sub(r'"created":[0-9]+', '"created":0', text)
    if not text.startswith("data: "):
        return [text]

    def choice(event):
        found = re.search(r'"choices":\[\{"index":([0-9]+)', event)
        return int(found[1]) if found else api_requests.CHOICES_MAX  # usage and [DONE] stay last
    return sorted(text.split("\n\n"), key=choice)


def draw_to_compare(rng, endpoint):
    """A request whose answer is a function of it."""
    while True:
        body = api_requests.valid(rng, endpoint)
        if body.get("seed") is None:
            body["seed"] = rng.randrange(2**40)
        # The usage so far depends on how far the other choices are.
        running = (body.get("stream_options") or {}).get("continuous_usage_stats")
        if not running or endpoint.choices(body) == 1:
            return body


@pytest.mark.heavy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_aggregated_equals_disaggregated(both_ways, endpoints, drawn, rng, path):
    apart = both_ways[1]
    before = apart.metrics()["pdserve_handoffs_total"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=c.gateway, timeout=c.http.timeout))
                   for c in both_ways]
        for _ in range(drawn):
            body = draw_to_compare(rng, endpoints[path])
            together, divided = (client.post(path, json=body) for client in clients)
            check_served(endpoints[path], body, divided)
            assert comparable(together.text) == comparable(divided.text), body
    assert apart.metrics()["pdserve_handoffs_total"] - before > drawn / 2
