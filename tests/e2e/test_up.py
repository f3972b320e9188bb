"""`pdserve up`: what it says, and that nothing survives its end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from harness import processes, prompts, streams
from harness.cluster import Instance
from harness.background import in_background
from harness.faults import under_way
from harness.processes import wait_until
from harness.raw_client import RawClient


def one_line(done, *words):
    """It failed with one line on standard error that has all `words`."""
    assert done.returncode not in (0, None) and done.returncode > 0, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert str(word) in lines[0], f"'{word}' is not in: {lines[0]}"


# ---- starting ----


def test_says_what_a_user_needs(start_cluster, program):
    cluster = start_cluster(config={"cluster": {"directory": None}})
    text = cluster.output()
    assert f"Serving {cluster.model} at {cluster.gateway}/v1" in text
    assert "Ctrl-C ends it." in text
    command = re.search(r"curl (.*?)\n\n", text, re.S).group(0).replace("\\\n", " ")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.stdout.endswith("data: [DONE]\n\n"), done
    assert "client = OpenAI(" in text
    state = json.loads(cluster.state_file.read_text())
    assert set(state["pids"]) == {"gateway", "controller"}
    assert all(pid in processes.marked(cluster.mark) for pid in state["pids"].values())
    assert oct(cluster.state_file.stat().st_mode & 0o777) == "0o600"
    assert oct((cluster.directory / "secret").stat().st_mode & 0o777) == "0o600"
    assert cluster.end(signal.SIGINT) == 0
    cluster.check_nothing_left()
    assert not cluster.directory.exists()


def test_python_snippet_runs(start_cluster):
    cluster = start_cluster()
    snippet = cluster.output().split("from openai import OpenAI", 1)[1].split("\n\n")[0]
    code = "\n".join(line.strip() for line in ("from openai import OpenAI" + snippet).splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Completion(" in done.stdout, done
    cluster.check_and_end()


def test_asks_the_model_a_question(program, tmp_path):
    """Without --no-question, the answer is streamed to the terminal."""
    state = tmp_path / "state.json"
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    process = subprocess.Popen(
        [program.path, "up", "--model", "stories260K", "--prefill", "1", "--decode", "1", "--port",
         "0", "--state", state], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "TMPDIR": str(tmp), "XDG_CACHE_HOME": str(tmp_path)},
        preexec_fn=processes.die_with_parent)
    try:
        text = process.stdout.readline() + process.stdout.readline() + process.stdout.readline()
        assert "> Once upon a time" in text and len(text) > 60, text
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(30) == 0, rest


# ---- ending ----


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ends_while_serving(start_cluster, how):
    """Streams under way are finished, then every process ends."""
    cluster = start_cluster()
    join = under_way(cluster, [prompts.story(450)] * 4)
    assert cluster.end(how) == 0
    streams.assert_complete(join())
    cluster.check_nothing_left()


def test_ends_only_when_a_slow_client_has_its_answer(start_cluster):
    """More bytes than the sockets hold wait in the gateway when it is told to stop."""
    cluster = start_cluster()
    client = RawClient(cluster, receive_buffer=4096, max_tokens=500, logprobs=20)
    client.read_until(b"data: ")
    cluster.process.send_signal(signal.SIGTERM)
    wait_until(lambda: all(cluster.held(i) == (0, 0, 0) for i in cluster.instances()), 10,
               "the instances have done their part")
    client.read_until(b"[DONE]")
    assert cluster.end() == 0
    cluster.check_nothing_left()


def test_long_streams_are_told_the_end(start_cluster):
    """Ctrl-C: what is not done within the limit ends with an error event, not with a cut line."""
    cluster = start_cluster()
    decodes = cluster.instances("decode")
    cluster.signal_pid("controller", signal.SIGSTOP)  # which would replace them
    for decode in decodes:
        cluster.freeze(decode)  # nothing comes after P's token
    client = RawClient(cluster)
    client.read_until(b"data: ")
    cluster.process.send_signal(signal.SIGINT)
    rest = client.read_to_end()
    assert b"event: error" in rest and b"shuts down" in rest and b"[DONE]" not in rest, rest[-500:]
    for decode in decodes:
        cluster.thaw(decode)
    cluster.signal_pid("controller", signal.SIGCONT)
    assert cluster.process.wait(timeout=25 * cluster.program.patience) == 0
    cluster.check_nothing_left()


@pytest.mark.heavy
def test_ends_while_starting(start_cluster, rng, scaled):
    for _ in range(scaled(6)):
        cluster = start_cluster(begin=False)
        moment = rng.choice(["pdserve.toml", "controller.log", "gateway.log", "worker-1.log",
                             "worker-2.log"])
        wait_until(lambda: (cluster.directory / moment).exists() or cluster.state_file.exists(),
                   20 * cluster.program.patience, lambda: f"no {moment}: {cluster.output()}",
                   pause=0.0005)
        assert cluster.end(signal.SIGINT) in (0, -signal.SIGINT)
        cluster.check_nothing_left()


def test_kill_9_of_up_ends_everything(start_cluster):
    cluster = start_cluster(prefill=2, decode=2)
    assert len(processes.marked(cluster.mark)) == 7
    join = under_way(cluster, [prompts.story(450)] * 4)
    cluster.process.kill()
    cluster.process.wait()
    left = processes.gone(cluster.mark, 3 * cluster.program.patience)
    assert not left, f"processes remain: {left}"
    join()
    cluster.check_nothing_left()


def test_gateway_dies(start_cluster):
    """A new one takes its place at the same address; one that dies at once again ends the cluster,
    and the logs stay."""
    cluster = start_cluster()
    cluster.signal_pid("gateway", signal.SIGKILL)
    wait_until(lambda: "a new one serves" in cluster.output(), 10 * cluster.program.patience,
               cluster.output)
    body = prompts.story(20)
    wait_until(lambda: cluster.serves(), 10 * cluster.program.patience, cluster.output)
    streams.assert_complete(streams.completions(cluster, [body]))
    cluster.state = json.loads(cluster.state_file.read_text())
    cluster.signal_pid("gateway", signal.SIGKILL)
    code = cluster.process.wait(timeout=20 * cluster.program.patience)
    assert code == 1 and "the gateway ended" in cluster.output(), cluster.output()
    assert "logs are kept in" in cluster.output()
    cluster.check_nothing_left()


def test_controller_dies_and_serving_goes_on(start_cluster):
    """Static stability (G19): without the controller the last topology serves."""
    cluster = start_cluster(prefill=2, decode=2)
    bodies = prompts.bodies(3, 30, tokens=100)
    expected = streams.completions(cluster, bodies)
    decode = cluster.instances("decode")[0]
    os.kill(cluster.state["pids"]["controller"], signal.SIGKILL)
    wait_until(lambda: "controller ended" in cluster.output(), 5 * cluster.program.patience,
               cluster.output)
    streams.assert_same(expected, streams.completions(cluster, bodies))
    # The gateway's own observation excludes a D that dies meanwhile.
    os.kill(decode.pid, signal.SIGKILL)
    streams.assert_same(expected, streams.completions(cluster, bodies))
    assert cluster.end() == 0
    cluster.check_nothing_left()


def test_frozen_controller_changes_nothing(start_cluster):
    cluster = start_cluster(prefill=2, decode=2)
    bodies = prompts.bodies(4, 30, tokens=100)
    expected = streams.completions(cluster, bodies)
    pid = cluster.state["pids"]["controller"]
    os.kill(pid, signal.SIGSTOP)
    streams.assert_same(expected, streams.completions(cluster, bodies))
    os.kill(pid, signal.SIGCONT)
    cluster.check_and_end()


def test_frozen_gateway(start_cluster):
    """Its leases end and everything it held is free (G2); thawed, it places its streams again, and
    no client notices but by the time."""
    cluster = start_cluster(config={"cluster": {"lease": "2s"}})
    bodies = prompts.bodies(5, 4, tokens=350, prompt_tokens=(1, 100))
    expected = streams.completions(cluster, bodies)
    prefill, decode = cluster.instances("prefill")[0], cluster.instances("decode")[0]
    gateway = Instance(0, "gateway", "", cluster.state["pids"]["gateway"], "", "")
    cluster.freeze(decode)  # so that P has to hold the KV
    join = in_background(lambda: streams.completions(cluster, bodies))
    wait_until(lambda: cluster.metrics()["pdserve_output_tokens_total"] >= 4 * 351, 20, "first tokens")
    cluster.freeze(gateway)
    assert cluster.held(prefill)[0] == 4
    wait_until(lambda: cluster.held(prefill)[0] == 0, (cluster.lease + 1) * cluster.program.patience,
               lambda: f"still held: {cluster.held(prefill)}")
    cluster.thaw(decode)
    cluster.thaw(gateway)
    streams.assert_same(expected, join())
    cluster.check_and_end()


# ---- mistakes ----


@pytest.fixture
def up(program, tmp_path):
    def run(port=0, config="", model=program.model):
        file = tmp_path / "config.toml"
        file.write_text(config)
        return program.run("up", "--model", model, "--prefill", 1, "--decode", 1, "--port", port,
                           "--no-question", "--config", file, limit=30,
                           environment={"TMPDIR": str(tmp_path / "tmp"),
                                        "XDG_CACHE_HOME": str(tmp_path)})
    (tmp_path / "tmp").mkdir()
    yield run
    assert not list((tmp_path / "tmp").iterdir()), "temporary files remain"


def mistake(done):
    """The one line about what is wrong."""
    assert done.returncode == 1, done
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("pdserve: ")]
    return line


def test_port_in_use(up):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = mistake(up(port))
    assert f"127.0.0.1:{port}" in line and f"process {os.getpid()}" in line, line
    assert "python" in line and "--port" in line, line


def test_port_in_use_by_another_cluster(start_cluster, up):
    cluster = start_cluster()
    line = mistake(up(cluster.gateway.rpartition(":")[2]))
    assert f"process {cluster.state['pids']['gateway']}" in line and "pdserve" in line, line
    cluster.check_and_end()


def test_no_such_model(up, tmp_path):
    one_line(up(model=tmp_path / "nowhere"), tmp_path / "nowhere", "no such")
    one_line(up(model="storys260K"), "storys260K", "stories260K")


def test_broken_models(up, tmp_path, program):
    def copy(name):
        folder = tmp_path / name
        shutil.copytree(program.model, folder)
        return folder

    empty = tmp_path / "empty"
    empty.mkdir()
    one_line(up(model=empty), "config.json")
    broken = copy("config")
    (broken / "config.json").write_text("{")
    one_line(up(model=broken), "config.json")
    other = copy("architecture")
    (other / "config.json").write_text(json.dumps(
        {**json.loads((other / "config.json").read_text()),
         "architectures": ["MambaForCausalLM"], "model_type": "mamba"}))
    one_line(up(model=other), "config.json", "Mamba", "LlamaForCausalLM")
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF" + bytes(range(256)))
    one_line(up(model=garbage), "garbage.gguf")


def test_truncated_weights(up, tmp_path, program):
    folder = tmp_path / "short"
    shutil.copytree(program.model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "model.safetensors" in mistake(up(model=folder))


MISTAKES = [
    ("[gatway]\n", ["gatway", "gateway"]),
    ("[gateway]\nprot = 1\n", ["[gateway] prot", "port"]),
    ("[gateway]\nport = \"x\"\n", ["[gateway] port", "0 to 65535"]),
    ("[gateway]\nport = 70000\n", ["[gateway] port", "0 to 65535"]),
    ("[gateway]\nttft_limit = 30\n", ["[gateway] ttft_limit", "30s"]),
    ("[gateway]\nttft_limit = \"20m\"\n", ["[gateway] request_limit", "ttft_limit"]),
    ("[gateway]\nhost = \"\"\n", ["[gateway] host"]),
    ("[gateway]\nhost = \"192.0.2.7\"\n", ["192.0.2.7", "no interface"]),
    ("[gateway]\nbody_bytes_max = \"1B\"\n", ["[gateway] body_bytes_max"]),
    ("[prefill]\nslots = 0\n", ["[prefill] slots", "1 to"]),
    ("[prefill]\nchunk_tokens = -1\n", ["[prefill] chunk_tokens"]),
    ("[decode]\nkv_memory = \"lots\"\n", ["[decode] kv_memory", "GiB"]),
    ("[decode]\nblock_tokens = 0\n", ["[decode] block_tokens"]),
    ("[model]\nkernels = \"fast\"\n", ["[model] kernels", "avx2"]),
    ("[model]\ndtype = \"fp8\"\n", ["[model] dtype", "bf16"]),
    ("[transfer]\nwires = \"pigeon\"\n", ["[transfer] wires", "shm"]),
    ("[transfer]\nmode = 3\n", ["[transfer] mode", "block-free"]),
    ("[cluster]\nlease = \"1s\"\n", ["[cluster] lease", "2"]),
    ("[cluster]\nsecret_file = \"/nowhere/secret\"\n", ["/nowhere/secret"]),
    ("[group]\nwhole = \"some\"\n", ["[group] whole", "threshold"]),
    ("[log]\nlevel = \"loud\"\n", ["[log] level", "debug"]),
    ("group = 3\n", ["group", "[group]"]),
    ("[group\n", ["not valid TOML"]),
]


@pytest.mark.parametrize("text, words", MISTAKES, ids=[text.strip().replace("\n", ";")
                                                       for text, _ in MISTAKES])
def test_mistake_in_the_configuration(up, text, words):
    done = up(config=text)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert all(word in lines[-1] for word in words), done.stderr
    assert sum("pdserve:" in line for line in lines) == 1, done.stderr


def test_all_mistakes_at_once(up):
    done = up(config="[prefill]\nslots = 0\nslats = 1\n[log]\nlevel = 5\n")
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 3, done.stderr


def test_memory_that_does_not_suffice_names_what_is_needed(up):
    line = mistake(up(config="[decode]\nkv_memory = \"100B\"\n"))
    assert "[decode] kv_memory" in line and "bytes" in line, line


@pytest.mark.parametrize("config, words", [
    ("[decode]\nkv_memory = \"1KiB\"\n", ["[decode] kv_memory", "use at least"]),
    ("[prefill]\nsend_buffer = \"1KiB\"\n", ["[prefill] send_buffer", "use at least"]),
    ("[model]\ncontext_max = 1\n", ["[model] context_max", "at least 64"]),
    ("[cluster]\ndirectory = \"/proc/x\"\n", ["[cluster] directory", "/proc"]),
])
def test_what_cannot_serve_does_not_start_and_check_says_so(up, program, tmp_path, config, words):
    line = mistake(up(config=config))
    file = tmp_path / "check.toml"
    file.write_text(config)
    done = program.run("check", "--model", program.model, "--config", file)
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 1, done.stdout
    for word in words:
        assert word in line and word in wrong[0], (line, wrong)


def test_a_second_up_in_the_same_folder_changes_nothing(start_cluster, program, tmp_path):
    cluster = start_cluster()
    files = ["secret", "pdserve.toml", "controller.log"]
    before = {name: (cluster.directory / name).read_bytes() for name in files}
    file = tmp_path / "second.toml"
    file.write_text(f"[cluster]\ndirectory = {json.dumps(str(cluster.directory))}\n")
    one_line(program.run("up", "--model", program.model, "--config", file, "--port", "0"),
             str(cluster.directory), "[cluster] directory", "another pdserve up")
    assert {name: (cluster.directory / name).read_bytes() for name in files} == before
    cluster.check_and_end()


def test_public_address_needs_a_secret(program, tmp_path):
    """`up` makes a secret; a worker started alone has none (G7)."""
    file = tmp_path / "config.toml"
    file.write_text("[worker]\nhost = \"0.0.0.0\"\n")
    one_line(program.run("worker", "--id", "1", "--controller", "127.0.0.1:1", "--model",
                         program.model, "--config", file, limit=20),
             "[worker] host", "secret_file", "127.0.0.1")
