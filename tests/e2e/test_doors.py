"""Keys, limits, the operator's port and the access log, with real processes and a real client."""
import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import threading

import httpx
import pytest

from harness.processes import wait_until
from harness.raw_http import Connection


def access_file(path, tenants, keys):
    lines = []
    for name, values in tenants.items():
        lines += ["[[tenant]]", f"name = {json.dumps(name)}"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for key, tenant in keys.items():
        digest = hashlib.sha256(key.encode()).hexdigest()
        lines += ["[[key]]", f'name = "{key}-name"', f'tenant = "{tenant}"', f'sha256 = "{digest}"']
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(path)


TENANTS = {"search": {"weight": 2.0, "requests_per_minute": 1000, "tokens_per_minute": 5000},
           "mail": {"concurrency": 1}}
KEYS = {"sk-search": "search", "sk-mail": "mail"}


class Doors:
    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.file = folder / "access.toml"
        self.log_file = folder / "access.log"
        self.http = httpx.Client(timeout=30)
        self.secret = (cluster.directory / "secret").read_text().strip()

    def ask(self, key, **body):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.http.post(f"{self.cluster.gateway}/v1/completions", headers=headers,
                              json={"prompt": "Once upon", "max_tokens": 4, **body})

    def admin(self, method, path, key=None):
        return self.http.request(method, f"http://{self.cluster.state['admin']}/admin/v1/{path}",
                                 headers={"authorization": f"Bearer {key or self.secret}"})

    def ctl(self, program, *words):
        return program.run("ctl", "--admin", self.cluster.state["admin"], "--key-file",
                           self.cluster.directory / "secret", *words)

    def log(self):
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    @contextlib.contextmanager
    def held(self):
        """Streams begun here have P's token and no more of them until it ends."""
        decodes = self.cluster.instances("decode")
        self.cluster.signal_pid("controller", signal.SIGSTOP)  # which would replace them
        for decode in decodes:
            self.cluster.freeze(decode)
        try:
            yield
        finally:
            for decode in decodes:
                self.cluster.thaw(decode)
            self.cluster.signal_pid("controller", signal.SIGCONT)

    def stream(self, key, tokens=400):
        """A stream: its id, its further lines, and a function that closes it."""
        context = self.http.stream(
            "POST", f"{self.cluster.gateway}/v1/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"prompt": "Once upon", "max_tokens": tokens, "stream": True, "ignore_eos": True})
        response = context.__enter__()
        assert response.status_code == 200, response.read()
        lines = response.iter_lines()
        first = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
        return first["id"], lines, lambda: context.__exit__(None, None, None)


@pytest.fixture
def doors(start_cluster, tmp_path):
    access_file(tmp_path / "access.toml", TENANTS, KEYS)
    cluster = start_cluster(config={"gateway": {"access_file": str(tmp_path / "access.toml"),
                                                "access_log": str(tmp_path / "access.log")}})
    return Doors(cluster, tmp_path)


def error(response, status, code):
    assert response.status_code == status, response.text
    body = response.json()["error"]
    assert body["code"] == code, body
    return body["message"]


def test_only_with_a_key(doors):
    assert doors.ask("sk-search").status_code == 200
    error(doors.ask(""), 401, "missing_api_key")
    error(doors.ask("sk-wrong"), 401, "invalid_api_key")
    http, base = doors.http, doors.cluster.gateway
    assert http.post(f"{base}/tokenize", json={"prompt": "x"}).status_code == 401
    refused = http.get(f"{base}/v1/models")
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert http.get(f"{base}/v1/completions").headers["allow"] == "POST"
    assert http.delete(f"{base}/health").headers["allow"] == "GET, HEAD"
    assert http.get(f"{base}/health").status_code == 200
    assert http.get(f"{base}/metrics").status_code == 200


def test_what_is_taught_asks_for_the_key(doors):
    """`up` prints a command that works once the key is in it; who forgets it is told so."""
    wait_until(lambda: "Ctrl-C ends it" in doors.cluster.output(), 5, "it has taught")
    taught = doors.cluster.output()
    command = taught[taught.index("curl "):taught.index("from openai")].replace("YOUR_KEY", "sk-search")
    assert 'api_key="YOUR_KEY"' in taught and str(doors.file) in taught
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert "data: [DONE]" in answer.stdout, answer
    program = doors.cluster.program
    done = program.run("chat", doors.cluster.gateway, stdin="Hello\n")
    assert done.returncode == 1 and "HTTP 401: " in done.stderr and "running?" not in done.stderr, done
    assert "--key-file FILE" in done.stderr
    operator = next(line for line in taught.splitlines() if " ctl --admin " in line)
    assert subprocess.run(["sh", "-c", operator], capture_output=True, timeout=60).returncode == 0
    wrong_port = operator.replace(doors.cluster.state["admin"], doors.cluster.gateway.removeprefix("http://"))
    answer = subprocess.run(["sh", "-c", wrong_port], capture_output=True, text=True, timeout=60)
    assert "is not an operators' port" in answer.stderr, answer


@pytest.mark.parametrize("key, status", [(None, 401), ("sk-wrong", 401), ("sk-search", None)])
def test_without_a_key_no_body_is_waited_for(doors, key, status):
    """What is being received is bounded together: it belongs to those who have a key."""
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    connection = Connection(doors.cluster)
    connection.send(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\n{authorization}"
                    f"Content-Length: 9000000\r\n\r\n{{".encode() + b" " * 10_000)
    if status is None:
        connection.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.take()
    else:
        answer = connection.take()
        assert answer.status == status and answer.closes and "x-request-id" in answer.headers


def test_limits(doors):
    assert doors.ask("sk-search", max_tokens=1).headers["x-ratelimit-limit-tokens"] == "5000"
    # The outputs overdraw the bucket; what comes next waits until it has come back.
    while (answer := doors.ask("sk-search", max_tokens=400, ignore_eos=True)).status_code == 200:
        assert int(answer.headers["x-ratelimit-remaining-requests"]) > 900
    message = error(answer, 429, "rate_limit_exceeded")
    assert "tokens per minute" in message and int(answer.headers["retry-after"]) >= 1
    # One at a time, and again when that one has ended.
    with doors.held():
        _, _, close = doors.stream("sk-mail")
        assert "requests at once" in error(doors.ask("sk-mail"), 429, "rate_limit_exceeded")
        close()
    wait_until(lambda: doors.ask("sk-mail").status_code == 200, 5, "the place is free again")
    tenants = {entry["name"]: entry for entry in doors.admin("GET", "tenants").json()["tenants"]}
    assert tenants["search"]["tokens"]["left"] < 100 and tenants["search"]["weight"] == 2
    assert tenants["mail"]["concurrency"] == 1


def test_keys_change_while_it_serves(doors):
    models = f"{doors.cluster.gateway}/v1/models"
    with doors.held():
        _, lines, close = doors.stream("sk-mail")
        access_file(doors.file, {**TENANTS, "new": {}}, {"sk-search": "search", "sk-new": "new"})
        wait_until(lambda: doors.http.get(models, headers={"authorization": "Bearer sk-new"})
                   .status_code == 200, 5, "the new key counts")
        error(doors.ask("sk-mail"), 401, "invalid_api_key")
    assert "data: [DONE]" in list(lines), "what runs goes on"
    close()
    # A mistake changes nothing.
    doors.file.write_text("[[key]]\nname = 7\n")
    wait_until(lambda: "the keys stay as they were" in doors.cluster.logs(), 5, "the mistake is told")
    assert doors.ask("sk-new").status_code == 200


def test_operator_sees_and_ends_requests(doors, program):
    with doors.held():
        request, lines, close = doors.stream("sk-mail")
        shown = doors.admin("GET", f"requests/{request}").json()
        assert shown["tenant"] == "mail" and shown["key"] == "sk-mail-name" and shown["status"] == 0
        assert shown["stream"] and shown["output_tokens"] == 1 and shown["prefill"], shown
        everything = doors.admin("GET", "requests").json()["requests"]
        assert [entry["id"] for entry in everything] == [request]
        table = doors.ctl(program, "requests")
        assert table.returncode == 0 and request in table.stdout and "join" in table.stdout
        assert json.loads(doors.ctl(program, "where", request).stdout)["id"] == request
        cancelled = doors.ctl(program, "cancel", request)
        assert cancelled.returncode == 0, cancelled.stderr
        rest = list(lines)
    assert any("cancelled_by_operator" in line for line in rest) and "data: [DONE]" not in rest
    close()
    gone = doors.ctl(program, "where", request)
    assert gone.returncode == 1 and "has ended" in gone.stderr
    (entry,) = [entry for entry in doors.log() if entry["id"] == request]
    assert entry["error"] == "cancelled_by_operator" and entry["status"] == 200


def test_operators_port_is_closed_to_others(doors, program, tmp_path):
    for key in ("wrong", "sk-search"):
        assert doors.admin("GET", "requests", key).status_code == 401
    assert doors.http.get(f"http://{doors.cluster.state['admin']}/admin/v1/requests").status_code == 401
    assert doors.admin("PUT", "requests").status_code == 405
    assert doors.admin("GET", "nothing").status_code == 404
    assert doors.admin("GET", "requests/cmpl-0").status_code == 404
    (tmp_path / "key").write_text("x" * 20)
    wrong = program.run("ctl", "--admin", doors.cluster.state["admin"], "--key-file",
                        tmp_path / "key", "requests")
    assert wrong.returncode == 1 and "not this gateway's key" in wrong.stderr
    odd = doors.ctl(program, "where", "../tenants")
    assert odd.returncode == 1 and "no request ../tenants" in odd.stderr


def test_access_log_accounts_for_every_request(doors):
    answers = [doors.ask("sk-search", n=2), doors.ask("sk-search", temperature=9), doors.ask("none")]
    threads = [threading.Thread(target=doors.ask, args=("sk-search",), kwargs={"max_tokens": 50})
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(doors.log()) == 11, 5, "a line each")
    entries = doors.log()
    assert [entry["status"] for entry in entries[:3]] == [200, 400, 401]
    assert entries[0]["id"] == answers[0].json()["id"] and entries[0]["choices"] == 2
    assert entries[0]["output_tokens"] == answers[0].json()["usage"]["completion_tokens"]
    for entry in entries:
        stages = entry["stages_ms"]
        assert sum(stages.values()) == pytest.approx(entry["total_ms"], rel=0.01, abs=0.01), entry
        assert all(time >= 0 for time in stages.values()), entry
        if entry["status"] == 200:
            assert 0 < entry["ttft_ms"] <= entry["total_ms"] and entry["prefill"] and entry["decode"]


def test_tenants_share_no_prefix(doors, start_cluster):
    """G30: the same prompt hits the cache for the tenant that sent it, and misses for another."""
    prompt = "A long time ago there was a king who had three daughters. " * 8
    cached = [doors.ask(key, prompt=prompt).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
              for key in ("sk-mail", "sk-mail", "sk-search", "sk-search")]
    assert cached[0] == 0 and cached[1] > 0 and cached[2] == 0 and cached[3] > 0, cached


def test_a_model_whose_name_needs_encoding(start_cluster):
    cluster = start_cluster(config={"model": {"name": "acme/tiny model"}})
    assert httpx.get(f"{cluster.gateway}/v1/models").json()["data"][0]["id"] == "acme/tiny model"
    for name in ("acme%2Ftiny%20model", "acme/tiny%20model"):
        one = httpx.get(f"{cluster.gateway}/v1/models/{name}")
        assert one.status_code == 200 and one.json()["id"] == "acme/tiny model", one.text
    assert httpx.get(f"{cluster.gateway}/v1/models/acme%2Ftiny").status_code == 404


def test_drain_by_the_operator(doors, program):
    with doors.held():
        request, lines, close = doors.stream("sk-mail")
        assert doors.ctl(program, "drain").returncode == 0
    text = list(lines)
    assert text[-1] == "" and "data: [DONE]" in text, text[-5:]
    close()
    assert doors.cluster.process.wait(timeout=20) == 0
    assert "drained" in doors.cluster.output()


def test_mistakes_are_told(program, tmp_path):
    access = tmp_path / "access.toml"
    access.write_text('[[tenant]]\nname = "a"\n[[key]]\nname = "k"\ntenant = "b"\nsha256 = "1"\n')
    config = tmp_path / "c.toml"

    def up(text):
        config.write_text(text)
        done = program.run("up", "--model", program.model, "--config", config, "--port", "0")
        assert done.returncode == 1
        return done.stderr
    assert "64 hex digits" in up(f'[gateway]\naccess_file = "{access}"\n')
    assert f"[gateway] access_file: {tmp_path}/access.none" in up(f'[gateway]\naccess_file = "{tmp_path}/access.none"\n')
    assert "[gateway] access_log" in up(f'[gateway]\naccess_log = "{tmp_path}/no/log"\n')
    assert f"[gateway] admin_key_file: {tmp_path}/none" in up(f'[gateway]\nadmin_key_file = "{tmp_path}/none"\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(f'[gateway]\naccess_log = "{tmp_path}/no/log"\nhandover_socket = "{tmp_path}/no/next"\n'
                          f'admin_port = {taken.getsockname()[1]}\n')
        done = program.run("check", "--model", program.model, "--config", config)
    for key in ("access_log", "handover_socket", "admin_port"):
        assert done.returncode == 1 and f"[gateway] {key}: " in done.stdout, done
    config.write_text(f'[gateway]\naccess_file = "{access}"\n')
    done = program.run("check", "--model", program.model, "--config", config)
    assert done.returncode == 1 and "wrong  " in done.stdout and "64 hex digits" in done.stdout
    (tmp_path / "short").write_text("x")
    assert "at least 16" in up(f'[gateway]\nadmin_key_file = "{tmp_path}/short"\n')
