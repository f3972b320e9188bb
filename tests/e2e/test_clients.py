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
CHAT_FOLDER = HERE.parent.parent / "models/SmolLM2-135M-Instruct"  # the same weights


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


CAPITAL = {"messages": [{"role": "user", "content": "What is the capital of France?"}],
           "temperature": 0, "max_tokens": 32}


def capital_of_france(cluster):
    answer = cluster.http.post(f"{cluster.gateway}/v1/chat/completions", json=CAPITAL, timeout=60).json()
    return answer["choices"][0]["message"]["content"]


def test_capital_of_france(chat_cluster):
    assert "Paris" in capital_of_france(chat_cluster)


def test_a_folder_answers_as_the_gguf_file(chat_cluster, start_cluster):
    if not CHAT_FOLDER.exists():
        pytest.skip(f"{CHAT_FOLDER} is not there; tools/make_default_model_folder.sh makes it")
    folder = start_cluster(model=str(CHAT_FOLDER))
    assert capital_of_france(folder) == capital_of_france(chat_cluster)
