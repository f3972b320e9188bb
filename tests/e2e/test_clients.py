"""The official OpenAI clients against a running cluster."""

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = {"python": [sys.executable, str(HERE / "clients/openai_client.py")],
           "javascript": ["node", str(HERE / "clients/openai_client.mjs")]}
CHAT_MODEL = HERE.parent.parent / "models/SmolLM2-135M-Instruct.Q4_1.gguf"


def run_client(client, cluster, *options):
    done = subprocess.run([*CLIENTS[client], cluster.gateway, cluster.model, *options],
                          capture_output=True, text=True, timeout=150 * cluster.program.patience)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [result for result in results if not result["ok"]]
    assert results and not failed and done.returncode == 0, (failed, done.stderr[-2000:])
    return results


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster(prefill=2, decode=2)


@pytest.mark.parametrize("client", CLIENTS)
def test_completions(cluster, client):
    # Errors of chat requests need a model that has a chat.
    results = run_client(client, cluster, "--skip", "chat", "--skip", "errors.invalid_value",
                         "--skip", "errors.unsupported_field")
    assert len(results) >= 15


@pytest.fixture(scope="module")
def chat_cluster(start_shared_cluster):
    if not CHAT_MODEL.exists():
        pytest.skip(f"{CHAT_MODEL} is not there; `make model` fetches it")
    return start_shared_cluster(model=str(CHAT_MODEL))


@pytest.mark.parametrize("client", CLIENTS)
def test_chat(chat_cluster, client):
    assert len(run_client(client, chat_cluster)) >= 24


def test_capital_of_france(chat_cluster):
    answer = chat_cluster.http.post(f"{chat_cluster.gateway}/v1/chat/completions", json={
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0, "max_tokens": 32}, timeout=60).json()
    assert "Paris" in answer["choices"][0]["message"]["content"], answer
