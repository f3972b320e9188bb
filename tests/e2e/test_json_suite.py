"""JSONTestSuite against the gateway: each document as a body, as a field's value, and as the text of
a string. All go through one connection, which must stay in sync."""

import json

import pytest

from harness import raw_http, suites

DOCUMENTS = suites.json_documents()
PATH = "/v1/completions"
GOOD = json.dumps({"prompt": "x", "max_tokens": 1}).encode()


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster()


@pytest.fixture
def ask(cluster):
    """ask(body) -> the answer to it, after which the connection has served a good request."""
    with raw_http.Connection(cluster) as connection:
        def one(body):
            connection.send(raw_http.post(PATH, body))
            answer = connection.take()
            assert answer.status == 200 or 400 <= answer.status < 500, (body, answer)
            assert not answer.closes, (body, answer)
            connection.send(raw_http.post(PATH, GOOD))
            after = connection.take()
            assert after.status == 200, (body, after)
            assert json.loads(after.body)["usage"]["completion_tokens"] == 1, (body, after)
            return answer
        yield one


def says_not_json(answer):
    return (answer.status == 400 and answer.error["code"] == "invalid_json"
            and answer.error["param"] is None and "JSON" in answer.error["message"]
            and "must be a JSON object" not in answer.error["message"])


def check(name, body, answer, right):
    if name.startswith("n_"):
        assert says_not_json(answer), (name, body[:80], answer)
    elif name.startswith("y_"):
        assert not says_not_json(answer), (name, body[:80], answer)
        assert right(answer), (name, body[:80], answer)


def test_as_body(ask):
    def right(answer):
        # None of the documents is a request: it is no object, or has no prompt.
        return (answer.status == 400 and
                (answer.error["param"] == "prompt" or "object" in answer.error["message"]))
    for name, data in DOCUMENTS.items():
        check(name, data, ask(data), right)


# What stands before and behind a field's value.
FIELDS = {
    "metadata": (b'{"prompt":"x","max_tokens":1,"metadata":', b"}"),
    "prompt": (b'{"max_tokens":1,"prompt":', b"}"),
    "stop": (b'{"prompt":"x","max_tokens":1,"stop":', b',"n":1}'),
    "logit_bias": (b'{"logit_bias":', b',"prompt":"x","max_tokens":1}'),
    "stream_options": (b'{"prompt":"x","max_tokens":1,"stream":false,"stream_options":', b"}"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_as_field(ask, field):
    def right(answer):
        return answer.status == 200 or (answer.error["param"] or "").startswith(field)
    before, after = FIELDS[field]
    for name, data in DOCUMENTS.items():
        value = data.removeprefix(b"\xef\xbb\xbf")  # only a whole text may begin with the mark
        check(name, data, ask(before + value + after), right)


def test_as_text(ask):
    """The bytes as a string: escaped where JSON wants it, it is any text, and comes back the same."""
    for name, data in DOCUMENTS.items():
        try:
            text = data.decode()
        except UnicodeDecodeError:
            answer = ask(b'{"prompt":"' + data.replace(b"\\", b"").replace(b'"', b"") + b'"}')
            assert says_not_json(answer), (name, answer)
            continue
        body = {"prompt": text, "max_tokens": 1, "echo": True, "temperature": 0}
        answers = [ask(json.dumps(body, ensure_ascii=ascii_only).encode())
                   for ascii_only in (True, False)]
        for answer in answers:
            if answer.status == 200:
                assert json.loads(answer.body)["choices"][0]["text"].startswith(text), (name, answer)
            else:
                assert answer.error["code"] == "context_length_exceeded", (name, answer)
                assert answer.error["param"] == "prompt" and len(text) > 250, (name, answer)
