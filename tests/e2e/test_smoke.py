"""The API over the smallest disaggregated cluster. Fast; also run on a sanitized build."""

import concurrent.futures
import contextlib
import json
import socket
import subprocess

import httpx
import pytest

from harness import prompts, streams

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster()


@pytest.fixture(scope="module")
def api(cluster, make_api):
    return make_api(cluster)


def stream_of(cluster, **fields):
    (outcome,) = streams.completions(cluster, [{"prompt": PROMPT, "temperature": 0,
                                                "max_tokens": 16, "stream": True, **fields}])
    assert outcome.status == 200 and outcome.done and not outcome.error, outcome
    return outcome


# ---- answers ----


def test_completion(api):
    answer = api.complete(model=api.model)
    assert answer["object"] == "text_completion" and answer["model"] == api.model
    (choice,) = answer["choices"]
    assert choice["index"] == 0 and choice["text"] and choice["logprobs"] is None
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 16
    assert usage["total_tokens"] == usage["prompt_tokens"] + 16


def test_stream_equals_answer(cluster, api):
    whole = api.complete()
    outcome = stream_of(cluster, stream_options={"include_usage": True})
    assert outcome.texts == {0: whole["choices"][0]["text"]}
    assert outcome.finishes == {0: "length"}
    assert outcome.usage["completion_tokens"] == 16
    assert outcome.usage["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert outcome.headers["content-type"].startswith("text/event-stream")
    assert outcome.headers["cache-control"] == "no-cache"


def test_stream_without_usage_has_none(cluster):
    assert stream_of(cluster).usage is None


def test_continuous_usage_counts_up(api):
    with api.http.stream("POST", "/v1/completions", json={
            "prompt": PROMPT, "temperature": 0, "max_tokens": 8, "stream": True,
            "stream_options": {"continuous_usage_stats": True}}) as answer:
        chunks = [json.loads(line[6:]) for line in answer.iter_lines()
                  if line.startswith("data: {")]
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk["choices"]]
    assert counts == sorted(counts) and counts[-1] == 8


def test_chat_without_a_template_is_refused_with_the_way_out(api):
    error = api.refuse(400, "/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}])
    assert "chat template" in error["message"] and "/v1/completions" in error["message"]


def test_n_choices_differ_and_come_again(cluster, api):
    fields = {"n": 3, "seed": 7, "temperature": 1.0}
    choices = api.complete(**fields)["choices"]
    texts = {choice["index"]: choice["text"] for choice in choices}
    assert sorted(texts) == [0, 1, 2] and len(set(texts.values())) == 3
    assert stream_of(cluster, **fields).texts == texts


def test_several_prompts(api):
    answer = api.complete(["Once upon a time", "One day", [1, 400, 20]])
    alone = [api.complete(p) for p in ("Once upon a time", "One day", [1, 400, 20])]
    assert [c["text"] for c in answer["choices"]] == [a["choices"][0]["text"] for a in alone]
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == sum(a["usage"]["prompt_tokens"] for a in alone)


def test_stop_string_over_token_borders(cluster, api):
    text = api.complete(max_tokens=40)["choices"][0]["text"]
    for begin, end in ((10, 13), (17, 25), (30, 31)):
        stop = text[begin:end]
        wanted = text[:text.index(stop)]
        answer = api.complete(max_tokens=40, stop=stop)["choices"][0]
        assert (answer["text"], answer["finish_reason"]) == (wanted, "stop")
        outcome = stream_of(cluster, max_tokens=40, stop=["\x00never", stop])
        assert outcome.texts.get(0, "") == wanted and outcome.finishes == {0: "stop"}


def test_stop_token_ids_and_min_tokens(api):
    always = {"logit_bias": {"300": 100}, "max_tokens": 12}  # so strong that nothing else comes
    free = api.complete(**always)
    assert free["usage"]["completion_tokens"] == 12
    stopped = api.complete(**always, stop_token_ids=[300])
    assert stopped["usage"]["completion_tokens"] == 1
    assert stopped["choices"][0]["text"] == ""
    assert stopped["choices"][0]["finish_reason"] == "stop"
    late = api.complete(**always, stop_token_ids=[300], min_tokens=5)
    assert late["usage"]["completion_tokens"] >= 5


def pieces(text, logprobs):
    """The text cut at the offsets of its tokens."""
    starts = logprobs["text_offset"]
    return [text[a:b] for a, b in zip(starts, starts[1:] + [len(text)])]


def test_logprobs(cluster, api):
    choice = api.complete(logprobs=3)["choices"][0]
    found = choice["logprobs"]
    assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["text_offset"]) == 16
    for value, top in zip(found["token_logprobs"], found["top_logprobs"]):
        assert value <= 0 and 1 <= len(top) <= 3
        assert abs(max(top.values()) - value) < 1e-6  # greedy takes the best
    assert "".join(found["tokens"]).lstrip() == choice["text"].lstrip()
    assert pieces(choice["text"], found) == [t.lstrip() if i == 0 else t
                                             for i, t in enumerate(found["tokens"])]
    outcome = stream_of(cluster, logprobs=3)
    assert outcome.tokens == {0: found["tokens"]}
    assert outcome.logprobs == {0: found["token_logprobs"]}


def test_echo_with_prompt_logprobs(cluster, api):
    plain = api.complete()["choices"][0]["text"]
    answer = api.complete(echo=True, logprobs=2)
    choice = answer["choices"][0]
    assert choice["text"] == PROMPT + plain
    found = choice["logprobs"]
    assert len(found["tokens"]) == answer["usage"]["total_tokens"]
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    assert all(value <= 0 for value in found["token_logprobs"][1:])
    # The text has neither the beginning-of-sequence token nor the first word's own space.
    first, second, *rest = found["tokens"]
    assert pieces(choice["text"], found) == ["", second.lstrip(), *rest], first
    assert stream_of(cluster, echo=True, logprobs=2).tokens == {0: found["tokens"]}


def test_logprobs_of_a_prompt_do_not_depend_on_the_cache(api, rng):
    prompt = prompts.ids(rng, 100)
    once = api.complete(prompt, echo=True, logprobs=1)["choices"]
    assert api.complete(prompt, echo=True, logprobs=1)["choices"] == once


def test_max_tokens_1_and_the_longest_output(api):
    assert api.complete(max_tokens=1)["usage"]["completion_tokens"] == 1
    prompt = [1] + [300] * 199
    answer = api.complete(prompt, max_tokens=312, ignore_eos=True)
    assert answer["usage"]["total_tokens"] == prompts.CONTEXT
    assert answer["choices"][0]["finish_reason"] == "length"


def test_one_token_prompt_and_the_longest(api):
    assert api.complete([1])["usage"]["prompt_tokens"] == 1
    longest = [1] + [300] * 510
    assert api.complete(longest, max_tokens=1)["usage"]["prompt_tokens"] == 511


def test_seed_decides(cluster, api):
    fields = {"temperature": 1.0, "seed": 11, "max_tokens": 32}
    first = api.complete(**fields)["choices"][0]["text"]
    assert api.complete(**fields)["choices"][0]["text"] == first
    assert stream_of(cluster, **fields).texts == {0: first}
    assert api.complete(**{**fields, "seed": 12})["choices"][0]["text"] != first
    # Without a seed, answers differ.
    drawn = {api.complete(temperature=1.0, max_tokens=32)["choices"][0]["text"] for _ in range(4)}
    assert len(drawn) > 1


def test_sampling_fields_have_an_effect(api):
    plain = api.complete(max_tokens=40)["choices"][0]["text"]
    first = api.post("/tokenize", prompt=plain, add_special_tokens=False).json()["tokens"][0]
    assert api.complete(max_tokens=40, logit_bias={str(first): -100})["choices"][0]["text"] != plain
    for penalty in ({"repetition_penalty": 5.0}, {"presence_penalty": 2.0},
                    {"frequency_penalty": 2.0}):
        assert api.complete(max_tokens=40, **penalty)["choices"][0]["text"] != plain, penalty
    for narrow in ({"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1.0}):
        answer = api.complete(max_tokens=40, **{"temperature": 1.5, **narrow})
        assert answer["choices"][0]["text"] == plain, narrow


def test_internal_fields_of_a_client_change_nothing(api):
    plain = api.complete()["choices"][0]["text"]
    steered = api.complete(kv_transfer_params={"remote_host": "203.0.113.9", "do_remote": True},
                           bootstrap_host="203.0.113.9", bootstrap_room=7, cache_salt="x")
    assert steered["choices"][0]["text"] == plain


def test_many_at_once_equal_one_alone(cluster, seed):
    bodies = prompts.bodies(seed, 24, tokens=20)
    alone = [streams.completions(cluster, [body])[0] for body in bodies]
    together = streams.completions(cluster, bodies)
    streams.assert_complete(together)
    streams.assert_same(alone, together)


# ---- other endpoints ----


def test_tokenize_and_back(api):
    text = "Once upon a time, 你好 🎉\n\tLily"
    tokens = api.post("/tokenize", prompt=text).json()
    assert tokens["count"] == len(tokens["tokens"]) and tokens["tokens"][0] == 1
    assert tokens["max_model_len"] == prompts.CONTEXT
    bare = api.post("/tokenize", prompt=text, add_special_tokens=False).json()["tokens"]
    assert bare == tokens["tokens"][1:]
    assert api.post("/detokenize", tokens=bare).json()["prompt"].strip() == text


def test_models(api):
    listed = api.http.get("/v1/models").json()
    assert listed["object"] == "list" and [m["id"] for m in listed["data"]] == [api.model]
    assert api.http.get(f"/v1/models/{api.model}").json()["id"] == api.model
    assert api.http.get("/v1/models/other").status_code == 404


def test_health(api, cluster):
    answer = api.http.get("/health")
    assert answer.status_code == 200 and answer.json()["status"] == "ok"
    for instance in cluster.instances():
        for question in ("live", "ready", "progress"):
            found = httpx.get(f"http://{instance.address}/health/{question}")
            assert found.status_code == 200, (instance, question, found.text)


def test_metrics_count_each_request_once(api, cluster):
    before = cluster.check_metrics()
    api.complete()
    api.refuse(400, prompt=5)
    api.refuse(404, model="other", prompt="x")
    after = cluster.check_metrics()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["pdserve_requests_received_total"] == 3
    assert grown["pdserve_requests_completed_total"] == 1
    assert grown["pdserve_requests_rejected_total"] == 2
    assert grown["pdserve_output_tokens_total"] == 16
    assert grown["pdserve_handoffs_total"] == 1
    assert grown["pdserve_handoff_bytes_total"] > 0
    assert grown["pdserve_ttft_seconds_count"] == grown["pdserve_e2e_seconds_count"] == 1
    assert after["pdserve_requests_in_flight"] == 0


def test_metrics_are_conserved_while_requests_run(cluster):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        load = pool.submit(streams.completions, cluster, [prompts.story(150)] * 16)
        samples = 0
        while not load.done():
            cluster.check_metrics()
            samples += 1
        streams.assert_complete(load.result())
    assert samples > 0


# ---- refusals ----


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"prompt": "x"', b"\xff\xfe{}",
                                  b'{"prompt": "\xc3\x28"}', b'{"prompt":"x"} x', b"nul"])
def test_not_json(api, body):
    answer = api.http.post("/v1/completions", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and error["code"] == "invalid_json", error


def test_unknown_model(api):
    error = api.refuse(404, model="no-such-model", prompt="x")
    assert error["code"] == "model_not_found" and "no-such-model" in error["message"]
    assert api.model in error["message"]


@pytest.mark.parametrize("field, value", [
    ("not_a_field", 1), ("best_of", 3), ("suffix", "x"), ("response_format", {"type": "json_object"}),
    ("tools", [{}]), ("store", True), ("service_tier", "priority")])
def test_unsupported_field_is_named(api, field, value):
    error = api.refuse(400, prompt="x", **{field: value})
    assert error["param"] == field and field in error["message"]


@pytest.mark.parametrize("field, value", [
    ("temperature", -0.1), ("temperature", 2.1), ("temperature", "hot"), ("top_p", 1.5), ("n", 0),
    ("n", 1000), ("max_tokens", 0), ("max_tokens", 1.5), ("logprobs", 21), ("stop", [1]),
    ("stop", ["x"] * 17), ("stop", ""), ("seed", 1.5), ("stream", "yes"), ("min_p", -1),
    ("repetition_penalty", 0), ("logit_bias", {"x": 1}), ("logit_bias", {"600": 1}),
    ("logit_bias", {"5": 101}), ("stop_token_ids", [512]), ("min_tokens", 17), ("prompt", None),
    ("prompt", []), ("prompt", [[]]), ("prompt", [512]), ("prompt", [-1]), ("prompt", {"a": 1}),
    ("prompt", ["x"] * 65)])
def test_bad_value_is_named(api, field, value):
    error = api.refuse(400, **{"prompt": "x", field: value})
    assert error["param"] == field, error


def test_stream_options_need_a_stream(api):
    error = api.refuse(400, prompt="x", stream_options={"include_usage": True})
    assert error["param"] == "stream_options"


def test_too_long(api):
    error = api.refuse(400, prompt=[1] * 512, max_tokens=1)
    assert error["code"] == "context_length_exceeded" and error["param"] == "prompt"
    assert "512" in error["message"]
    error = api.refuse(400, prompt=[1] * 500, max_tokens=13)
    assert error["code"] == "context_length_exceeded" and error["param"] == "max_tokens"
    assert api.complete([1] * 500, max_tokens=12)["usage"]["total_tokens"] <= 512
    error = api.refuse(400, prompt="word " * 20000)
    assert error["code"] == "context_length_exceeded"


def test_errors_of_a_stream_come_as_errors(api):
    answer = api.post("/v1/completions", prompt="x", n=0, stream=True)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "n"


def test_body_above_the_limit(api):
    answer = api.http.post("/v1/completions", content=b'{"prompt":"' + b"x" * (11 << 20) + b'"}')
    assert answer.status_code == 413
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/v1/completions", 405), ("GET", "/v1/chat/completions", 405), ("GET", "/tokenize", 405),
    ("POST", "/v1/models", 405), ("DELETE", "/metrics", 405), ("GET", "/", 404),
    ("POST", "/v1/embeddings", 404), ("GET", "/v1/completions/x", 404), ("GET", "/pd/v1/legs", 404),
    ("GET", "/cluster/v1/status", 404)])
def test_wrong_method_or_url(api, method, path, status):
    answer = api.http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_internal_ports_deny(cluster):
    """Without the secret, workers and controller answer only whether they live (G7)."""
    addresses = [instance.address for instance in cluster.instances()] + [cluster.state["controller"]]
    for address in addresses:
        for method, path in (("GET", "/pd/v1/legs"), ("POST", "/pd/v1/renew"),
                             ("POST", "/control/v1/assign"),
                             ("GET", "/control/v1/status"), ("GET", "/cluster/v1/status"),
                             ("POST", "/cluster/v1/register"), ("GET", "/metrics")):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic wrong"}):
                answer = httpx.request(method, f"http://{address}{path}", headers=headers)
                assert answer.status_code == 401, (address, method, path, answer.text)


def test_internal_verbs_survive_nonsense(cluster):
    """With the secret: a malformed message is refused, and the instance goes on."""
    headers = cluster._authorization()
    for instance in cluster.instances():
        for path in ("/pd/v1/legs", "/pd/v1/renew", "/control/v1/assign"):
            for body in (b"", b"\x00" * 64, b"\xff" * 4096, b"{}", b'{"role":"none","fence":0}'):
                answer = httpx.post(f"http://{instance.address}{path}", content=body,
                                    headers=headers)
                assert 400 <= answer.status_code < 500, (instance, path, body[:8], answer.status_code)
        assert cluster.ask(instance)["ready"]


def test_channels_survive_nonsense(cluster):
    """A channel needs the secret; on one, what is no command ends it, and nothing else."""
    def channel(instance, authorization):
        host, port = instance.address.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(f"GET /pd/v1/legs HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n"
                           "connection: upgrade\r\nupgrade: pdserve-legs-5\r\n\r\n".encode())
        return connection

    for instance in cluster.instances():
        with channel(instance, "Bearer wrong") as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
        good = cluster._authorization()["authorization"]
        unknown, huge = b"\0\0\0\0\x09", b"\xff\xff\xff\xff\x01"
        short = b"\x03\0\0\0\x01abc"  # a prefill of three bytes
        for nonsense in (unknown, huge, short, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            with channel(instance, good) as connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
                connection.sendall(nonsense)
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(4096) == b""
        with channel(instance, good) as connection:  # half a command, then nothing
            connection.recv(4096)
            connection.sendall(b"\xff\0\0\0\x02half")
        assert cluster.ask(instance)["ready"]


# ---- connections ----


def test_one_connection_serves_many_requests(api):
    with httpx.Client(base_url=str(api.http.base_url)) as client:
        for _ in range(5):
            assert client.post("/v1/completions", json={"prompt": "x", "max_tokens": 2}).is_success
        (connection,) = client._transport._pool.connections
        assert connection.is_idle()


def test_slow_body(cluster):
    body = json.dumps({"prompt": PROMPT, "temperature": 0, "max_tokens": 4}).encode()
    host, port = cluster.gateway.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body))
        for byte in body:
            raw.sendall(bytes([byte]))
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"finish_reason"' in answer


def test_curl(cluster):
    body = json.dumps({"prompt": PROMPT, "temperature": 0, "max_tokens": 6, "stream": True})
    done = subprocess.run(["curl", "-sSN", f"{cluster.gateway}/v1/completions", "-H",
                           "content-type: application/json", "-d", body],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    events = done.stdout.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    text = "".join(json.loads(event[6:])["choices"][0]["text"] for event in events[:-2])
    plain = subprocess.run(["curl", "-sS", f"{cluster.gateway}/v1/completions", "-d",
                            body.replace("true", "false")], capture_output=True, text=True)
    assert json.loads(plain.stdout)["choices"][0]["text"] == text
