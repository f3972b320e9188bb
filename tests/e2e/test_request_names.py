"""The names under which a request is found again: its own, its client's, its trace."""

import contextlib
import json

import httpx
import pytest

from harness.gateways import Gateway
from harness.processes import wait_until
from test_doors import Doors, access_file

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NAMES = {"x-request-id": "client/7?%41", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture
def cluster(start_cluster, tmp_path):
    access_file(tmp_path / "access.toml", {"many": {}, "alone": {"concurrency": 1}},
                {"sk-many": "many", "sk-alone": "alone"})
    return start_cluster(config={"prefill": {"slots": 8},  # as many streams are held at once
                                 "gateway": {"access_file": str(tmp_path / "access.toml"),
                                             "access_log": str(tmp_path / "access.log")}})


def ask(url, key, headers=None, **body):
    return httpx.post(f"{url}/v1/completions", timeout=60,
                      json={"prompt": "Once upon", "max_tokens": 2, **body},
                      headers={"authorization": f"Bearer {key}", **(headers or {})})


def test_every_answer_has_its_id(cluster, tmp_path):
    url = cluster.gateway
    whole = ask(url, "sk-many", headers=NAMES)
    assert whole.headers["x-request-id"] == whole.json()["id"]
    stream = ask(url, "sk-many", stream=True)
    assert stream.headers["x-request-id"] in stream.text
    answers = [whole, stream, ask(url, "sk-many", temperature=9), ask(url, "none"),
               ask(url, "sk-many", headers={"x-request-id": "not\ttaken", "traceparent": "00-1"})]
    others = [httpx.get(f"{url}{path}", headers={"authorization": "Bearer sk-many"})
              for path in ("/v1/models", f"/v1/models/{cluster.model}", "/v1/models/none",
                           "/v1/none", "/v1/completions")] + [httpx.get(f"{url}/v1/models")]
    ids = [answer.headers["x-request-id"] for answer in answers + others]
    assert len(set(ids)) == len(ids)
    log = tmp_path / "access.log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == len(answers), 5, "all lines")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["id"] for entry in entries] == [a.headers["x-request-id"] for a in answers]
    assert entries[0]["client_id"] == NAMES["x-request-id"] and entries[0]["trace_id"] == TRACE
    assert "client_id" not in entries[-1] and "trace_id" not in entries[-1]


def test_an_operator_finds_a_request_by_its_clients_id(cluster, program, tmp_path):
    body = {"prompt": "Once", "max_tokens": 450, "ignore_eos": True, "stream": True}
    with Doors(cluster, tmp_path).held(), httpx.Client(timeout=60) as http, http.stream(
            "POST", f"{cluster.gateway}/v1/completions", json=body,
            headers={"authorization": "Bearer sk-alone", **NAMES}) as response:
        lines = response.iter_lines()
        next(lines)
        found = program.run("ctl", "--admin", cluster.state["admin"], "--key-file",
                            cluster.directory / "secret", "where", NAMES["x-request-id"])
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["id"] == response.headers["x-request-id"]
        refused = ask(cluster.gateway, "sk-alone")
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1


def test_an_operator_ends_the_request_that_is_meant_and_no_other(cluster, program, tmp_path):
    """A client may send another request's id as its own, and the same with many requests; whichever
    loops have them, the gateway's own id counts, and a name of several is refused."""
    gateway = Gateway(cluster, "loops", loops=4, admin_port=0).wait_ready()

    def ctl(*words):
        return program.run("ctl", "--admin", gateway.admin, "--key-file",
                           cluster.directory / "secret", *words)

    def stream(stack, headers):
        """On a connection of its own: the kernel deals them out over the loops."""
        response = stack.enter_context(httpx.stream(
            "POST", f"{gateway.url}/v1/completions", timeout=60,
            json={"prompt": "Once", "max_tokens": 20, "ignore_eos": True, "stream": True},
            headers={"authorization": "Bearer sk-many", **headers}))
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        return response.headers["x-request-id"], lines

    with contextlib.ExitStack() as stack:
        with Doors(cluster, tmp_path).held():
            meant, its_lines = stream(stack, {})
            others = [stream(stack, {"x-request-id": meant}) for _ in range(5)]
            assert json.loads(ctl("where", meant).stdout)["id"] == meant
            cancelled = ctl("cancel", meant)
            assert cancelled.returncode == 0, cancelled.stderr
            assert json.loads(cancelled.stdout) == {"cancelled": meant}
            assert any("cancelled_by_operator" in line for line in its_lines)
            # Now it is a name that five requests have from their client, and nobody's own.
            for verb in ("where", "cancel"):
                refused = ctl(verb, meant)
                assert refused.returncode == 1, refused.stdout
                assert all(own in refused.stderr for own, _ in others), refused.stderr
        for _, lines in others:
            assert "data: [DONE]" in list(lines)
    assert gateway.end() == 0
