"""llhttp's request cases against the gateway: each has the verdict of a strict server, and what
follows is read in sync. Where we differ from llhttp's strict mode is written here
(docs/decisions/http-parser.md has the reasons)."""

import re

import pytest

from harness import raw_http, suites

CASES = suites.http_cases()
# Behind what must be refused: llhttp refuses in the midst of a line, we read whole ones.
HEAD_END = b"\r\n\r\n"
HEALTHY = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"

# What llhttp serves and we refuse, by the status.
STRICTER = {
    # HTTP/0.9 and other protocols
    "sample: No HTTP version": 400,
    "method: SOURCE request with ICE": 400,
    "method: OPTIONS request with RTSP": 400,
    "method: ANNOUNCE request with RTSP": 400,
    # targets: characters outside RFC 3986, user information, "*" without OPTIONS, no proxying
    "uri: Quotes in URI": 400,
    "uri: Query URL with vertical bar character": 400,
    "uri: `host:port` and basic auth": 400,
    "method: M-SEARCH request": 400,
    "method: PRI request HTTP2": 400,
    "method: CONNECT request": 501,
    "method: CONNECT request with CAPS": 501,
    "method: CONNECT with body": 501,
    "uri: Underscore in hostname": 501,
    # only a single `chunked`
    "transfer-encoding: POST with `chunked` as last transfer-encoding": 501,
    "transfer-encoding: POST with `chunked` as last transfer-encoding (multiple headers)": 400,
}
# What llhttp refuses by another status than 400.
OTHER_STATUS = {"invalid: Invalid HTTP version": 505,
                "lenient-version: Invalid HTTP version (lenient)": 505}
# Methods that llhttp does not know, or not with HTTP/1.1: any token is a method.
LOOSER = {"invalid: Invalid method": ("MKCOLA", "/"),
          "invalid: HTTP protocol and ANNOUNCE method": ("ANNOUNCE", "/music/sweet/music")}
# Cases of llhttp's lenient modes that are sound as far as we read them.
SOUND_IN_PART = {
    # the first message closes the connection: the rest is not read
    "connection: Resetting flags when keep-alive is off (1.0, lenient)": [("PUT", "/url")],
    "connection: CRLF between requests, explicit `close` (lenient)": [("POST", "/")],
    # only the second message needs leniency
    "lenient-headers: Second request header value (lenient)": [("GET", "/url")],
}


def verdict(case):
    """Messages to be served, and the status of the refusal behind them (0: none)."""
    if case.name in LOOSER:
        return [LOOSER[case.name]], 0
    if case.name in STRICTER:
        return [], STRICTER[case.name]
    refusal = OTHER_STATUS.get(case.name, 400)
    if case.strict:
        return case.messages, 0 if case.error in (0, *case.MILD) else refusal
    served = SOUND_IN_PART.get(case.name, [])
    closed = case.name.startswith("connection: ") and served
    return served, 0 if closed else refusal


def is_bare(data):
    """Whether the first request is of HTTP/1.1 and has no Host, which RFC 9112 requires and llhttp
    does not."""
    head = data.lstrip(b"\r\n").split(b"\r\n\r\n")[0]
    return b"HTTP/1.1\r\n" in head and not re.search(rb"(?im)^host:", head)


def path_of(target):
    """What the answer calls it: without scheme, authority, query and fragment."""
    path = re.split(r"[?#]", re.sub(r"^https?://[^/?]*", "", target))[0]
    return path or "/"


def exchange(cluster, data, methods, by_byte=False):
    """All answers to `data` on a connection of its own."""
    with raw_http.Connection(cluster) as connection:
        (connection.send_by_byte if by_byte else connection.send)(data)
        rest = connection.finish()
    answers = []
    while rest:
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        answer, rest = raw_http.take_answer(rest, has_body=method != "HEAD")
        assert answer, f"half an answer: {rest[:300]!r}"
        answers.append(answer)
    return answers


def served_by_handler(answer):
    """Not refused by the parser."""
    return not answer.body or answer.error["code"] == "unknown_url"


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster()


@pytest.fixture(autouse=True)
def good_request_after_each(cluster):
    yield
    answer = cluster.http.post(f"{cluster.gateway}/v1/completions",
                               json={"prompt": "x", "max_tokens": 1})
    assert answer.status_code == 200, answer.text


def check_sound(answers):
    """What holds for any input: a refusal is the last answer and ends the connection."""
    for answer in answers:
        assert 400 <= answer.status < 500 or answer.status in (501, 505), answer
    for answer in answers[:-1]:
        assert served_by_handler(answer) and not answer.closes, answers
    if answers and not served_by_handler(answers[-1]):
        assert answers[-1].closes, answers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(cluster, case):
    served, refusal = verdict(case)
    data = suites.servable(case.data)
    if refusal:
        data += HEAD_END
    methods = [method for method, _ in served]
    answers = exchange(cluster, data, methods)
    check_sound(answers)
    if case.error not in (22, 23):  # what follows an upgrade is the next request to us
        assert len(answers) == len(served) + (refusal != 0), answers
    for (method, target), answer in zip(served, answers, strict=False):
        assert answer.status == 404, answer
        if method != "HEAD":
            assert answer.error["message"] == f"Invalid URL ({method} {path_of(target)})"
    if refusal:
        assert (answers[-1].status, served_by_handler(answers[-1])) == (refusal, False), answers

    split = exchange(cluster, data, methods, by_byte=True)
    assert [(a.status, a.body) for a in split] == [(a.status, a.body) for a in answers]

    if refusal or case.error or case.open or not served or answers[-1].closes:
        return
    more = exchange(cluster, data + HEALTHY, [*methods, "GET"])
    assert [a.status for a in more] == [404] * len(served) + [200], more


@pytest.mark.parametrize("case", [case for case in CASES if is_bare(case.data)],
                         ids=lambda case: case.name)
def test_missing_host_is_refused(cluster, case):
    answers = exchange(cluster, case.data + HEAD_END, ["POST"])
    check_sound(answers)
    assert len(answers) == 1 and not served_by_handler(answers[0]), answers
    assert answers[0].status in (400, 501, 505), answers
