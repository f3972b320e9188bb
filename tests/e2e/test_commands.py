"""The subcommands that answer on standard output."""

import http.server
import json
import os
import pathlib
import socket
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHAT_MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = ["Once upon a time", "", " ", "\n\n\t", "Répète: 🎉 你好 مرحبا e\u0301", "a" * 1000,
         "1234567890 +-*/"]


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


def answers(done):
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_tokenize_agrees_with_the_gateway(program, start_cluster, make_api):
    api = make_api(start_cluster())
    done = program.run("tokenize", "--model", program.model,
                       stdin=lines(*({"text": text} for text in TEXTS)))
    for text, answer in zip(TEXTS, answers(done), strict=True):
        assert answer["ids"] == api.post("/tokenize", prompt=text).json()["tokens"]


def test_tokenize_both_ways(program):
    ids = answers(program.run("tokenize", "--model", program.model, stdin=lines(
        *({"text": text, "add_special_tokens": False} for text in TEXTS))))
    back = answers(program.run("tokenize", "--model", os.path.join(program.model, "tokenizer.json"),
                               stdin=lines(*ids)))
    assert [b["text"].lstrip() for b in back] == [t.lstrip() for t in TEXTS]


def test_tokenize_reports_bad_lines_and_goes_on(program):
    done = program.run("tokenize", "--model", program.model,
                       stdin='{"text": "a"}\nnonsense\n{"ids": [99999]}\n{"text": "b"}\n')
    first, second, third, fourth = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert "ids" in first and "ids" in fourth
    assert second["line"] == 2 and second["error"] and third["line"] == 3 and third["error"]


def test_render(program, tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text("{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n"
                        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}")
    done = program.run("render", "--template", template, stdin=lines(
        {"messages": [{"role": "user", "content": " Hi "}], "bos_token": "<s>",
         "add_generation_prompt": True},
        {"messages": []}))
    assert answers(done) == [{"text": "<s>[user] Hi\n[assistant]"}, {"text": ""}]


def test_render_reports_errors(program, tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text("{% if messages | length == 0 %}{{ raise_exception('no messages') }}"
                        "{% endif %}ok")
    done = program.run("render", "--template", template,
                       stdin=lines({"messages": []}, {"messages": [{"role": "user"}]}))
    first, second = map(json.loads, done.stdout.splitlines())
    assert "no messages" in first["error"] and second == {"text": "ok"}
    template.write_text("{% for %}")
    done = program.run("render", "--template", template, stdin=lines({}))
    assert done.returncode == 1 and done.stderr.startswith("pdserve: ")
    done = program.run("render", "--model", program.model, stdin=lines({}))
    assert done.returncode == 1 and "chat template" in done.stderr


def test_check_says_yes(program, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[gateway]\nport = 0\n")  # any: the usual one may be somebody's
    done = program.run("check", "--model", program.model, "--config", file)
    assert done.returncode == 0, done
    for word in ("model", "can listen", "KV"):
        assert word.lower() in done.stdout.lower(), done.stdout


def test_check_says_no(program, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[prefill]\nslots = 0\nslats = 1\n")
    done = program.run("check", "--model", program.model, "--config", file)
    assert done.returncode == 1
    assert "[prefill] slots" in done.stdout + done.stderr
    assert "[prefill] slats" in done.stdout + done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file.write_text(f"[gateway]\nport = {taken.getsockname()[1]}\n")
        done = program.run("check", "--model", program.model, "--config", file)
    assert done.returncode == 1 and "[gateway] port" in done.stdout, done
    done = program.run("check", "--model", tmp_path / "nowhere")
    assert done.returncode == 1 and "nowhere" in done.stdout + done.stderr


def test_help_teaches(program):
    done = program.run("--help")
    assert done.returncode == 0
    for command in ("up", "worker", "gateway", "controller", "check", "chat", "tokenize", "render"):
        assert command in done.stdout
        help_ = program.run(command, "--help")
        assert help_.returncode == 0 and len(help_.stdout) > 100
    assert program.run("--version").stdout.startswith("pdserve ")
    wrong = program.run("serve")
    assert wrong.returncode != 0 and "--help" in wrong.stdout + wrong.stderr


def test_chat_without_a_template_says_so(program, start_cluster):
    cluster = start_cluster()
    done = program.run("chat", cluster.gateway, stdin="Hello\n")
    assert done.returncode == 1 and "chat template" in done.stderr
    cluster.check_and_end()


def test_chat_without_a_server_says_so(program):
    done = program.run("chat", "127.0.0.1:1", stdin="Hello\n")
    assert done.returncode == 1 and "pdserve up" in done.stderr


def test_chat(program, start_cluster):
    if not CHAT_MODEL.exists():
        pytest.skip(f"{CHAT_MODEL} is not there; `make model` fetches it")
    cluster = start_cluster(model=str(CHAT_MODEL))
    done = program.run("chat", cluster.gateway, "--temperature", 0, "--max-tokens", 48,
                       stdin="What is the capital of France?\nAnd of Germany?\n", limit=120)
    assert done.returncode == 0 and "Paris" in done.stdout and "Berlin" in done.stdout, done
    cluster.check_and_end()


@pytest.fixture
def impostor():
    """A server that answers every GET with one body."""
    servers = []

    def serve(body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("body", ["", "[]", '{"instances":[{}]}', '{"instances":[1]}',
                                  '{"instances":{"a":1}}', '{"instances":[{"id":"x"}]}'])
def test_check_of_what_is_no_controller(program, impostor, body):
    done = program.run("check", "--controller", impostor(body), limit=20)
    assert done.returncode == 1 and "is not what a controller says" in done.stdout, done


@pytest.mark.parametrize("body", ['{"data":[{"id":5}]}', '{"data":[5]}', '{"data":{}}', "null"])
def test_chat_with_what_is_no_model_server(program, impostor, body):
    done = program.run("chat", impostor(body), stdin="hello\n", limit=20)
    assert done.returncode == 1 and "/v1/models answers" in done.stderr, done


def test_flags_are_checked(program):
    assert "banana not in" in program.run("up", "--log", "banana").stderr
    assert "--id is required" in program.run("worker", "--controller", "x:1").stderr
    assert "no command 'serve'" in program.run("serve").stderr
