"""The load tool against servers that are not pdserve."""

import json
import signal
import subprocess
import time

import pytest

from harness.processes import wait_until
from harness.stand_in import USAGE, Asked, StandIn, chunk


@pytest.fixture
def stand_in():
    """stand_in(answer) -> a server that lives as long as the test."""
    made = []

    def start(*arguments, **options):
        made.append(StandIn(*arguments, **options))
        return made[-1]
    yield start
    for server in made:
        server.close()


@pytest.fixture
def bench(program, tmp_path):
    """Runs a load of a few requests; what it says, and its summary."""
    def run(server, *flags, status=0, **options):
        when = () if "--rate" in flags else ("--concurrency", 2, "--requests", 4)
        done = program.run("bench", "serve", server.url, *when, "--quiet", "--json",
                           tmp_path / "s.json", *flags, **options)
        assert done.returncode == status, done
        file = tmp_path / "s.json"
        return done, json.loads(file.read_text()) if file.exists() else None
    return run


@pytest.mark.parametrize("options, waited_for", [
    ({"models": Asked.say_nothing}, "GET /v1/models"),
    ({"answer": Asked.say_nothing}, "POST /v1/chat/completions")])
def test_a_server_that_does_not_answer_is_not_waited_for(bench, stand_in, options, waited_for):
    done, _ = bench(stand_in(**options), "--timeout", "1s", status=1, limit=20)
    assert f"{waited_for}: no whole answer within 1 s" in done.stderr


def without_chat(asked):
    return asked.refuse(404, "no such endpoint") if "chat" in asked.path else asked.speak()


def test_a_server_without_chat_is_found_whoever_counts(bench, stand_in):
    for flags in ((), ("--tokens-per-word", 1)):
        _, summary = bench(stand_in(without_chat), *flags)
        assert summary["setting"]["api"] == "completions, streamed", flags
        assert summary["requests"]["completed"] == 4


def test_a_load_that_does_not_begin_leaves_results_alone(bench, stand_in, program, tmp_path):
    refusing = stand_in(lambda asked: asked.refuse(500, "broken"))
    done, summary = bench(refusing, "--html", tmp_path / "new.html", status=1)
    assert "broken" in done.stderr and summary is None
    (tmp_path / "s.json").write_text('{"old": 1}')
    _, summary = bench(refusing, "--html", tmp_path / "new.html", status=1)
    assert summary == {"old": 1} and [path.name for path in tmp_path.iterdir()] == ["s.json"]
    _, summary = bench(stand_in())
    assert summary["requests"]["completed"] == 4


def test_a_terminal_obeys_no_word_of_a_server(bench, stand_in, program):
    evil = "\x1b]0;title\x07\x1b[31mred\u009b2J"
    shown = "\\x1b]0;title\\x07\\x1b[31mred\\u009b2J"
    refusing = stand_in(lambda asked: asked.refuse(400, evil), model="m" + evil)
    # The first request is refused, and then each one of a load.
    for flags in ((), ("--tokens-per-word", 1, "--api", "chat")):
        done, _ = bench(refusing, *flags, status=1)
        assert shown in done.stderr and not set("\x1b\x07\u009b") & set(done.stdout + done.stderr)
    assert done.stdout.count(shown) == 3  # the model, why it does not fit, and how often
    done = program.run("chat", refusing.url, stdin="hello\n")
    assert shown in done.stderr and not set("\x1b\x07\u009b") & set(done.stdout + done.stderr)
    talking = stand_in(lambda asked: asked.stream(chunk(f"two\nlines {evil}")))
    done = program.run("chat", talking.url, stdin="hello\n")
    assert done.stdout == f"two\nlines {shown}\n", done


@pytest.mark.parametrize("how", [(), ("--whole",)])
def test_a_server_that_does_not_count(bench, stand_in, how, tmp_path):
    server = stand_in(lambda asked: asked.speak(usage=False))
    done, summary = bench(server, "--tokens-per-word", 1, "--html", tmp_path / "r.html", *how)
    assert summary["requests"]["completed"] == summary["tokens"]["without_usage"] == 4
    assert summary["tokens"]["output"] == (4 if how else 12)
    assert " - prompt tokens/s" in done.stdout and "no usage      4 of the 4" in done.stdout
    assert '"without_usage":4' in (tmp_path / "r.html").read_text()


def test_lines_that_end_with_cr_alone(bench, stand_in):
    server = stand_in(lambda asked: asked.stream(chunk("x"), USAGE, end="\r")
                      if asked.body.get("stream") else asked.speak())
    _, summary = bench(server)
    assert summary["requests"]["completed"] == 4


def test_a_stall_that_is_cut_short_is_no_success(program, stand_in, tmp_path):
    came = []

    def answer(asked):
        came.append(asked)
        return asked.speak() if len(came) <= 20 else asked.say_nothing()
    server = stand_in(answer)
    with subprocess.Popen([program.path, "bench", "serve", server.url, "--rate", "40", "--seconds", "10m",
                           "--slo", "ttft=500ms", "--tokens-per-word", "1", "--api", "chat", "--quiet",
                           "--json", tmp_path / "s.json"], stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(came) > 60, 30 * program.patience, "the stall")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    requests = (summary := json.loads((tmp_path / "s.json").read_text()))["requests"]
    assert requests["offered"] == requests["completed"] + requests["unfinished"] > 60
    assert requests["completed"] <= 20 and 0 < requests["undecided"] < requests["unfinished"] - 20
    decided = requests["offered"] - requests["undecided"]
    assert summary["within_slo_share"] == pytest.approx(requests["within_slo"] / decided) and decided > 40
    assert f"of the {decided} offered whose outcome is known" in out


@pytest.mark.parametrize("flags, why", [
    (("--concurrency", 100), "--concurrency: 100 connections and the limit of 64 descriptors"),
    (("--rate", 2000, "--requests", 500), "Too many open files")])
def test_a_client_without_descriptors_blames_no_server(program, stand_in, flags, why):
    server = stand_in(Asked.say_nothing)
    done = subprocess.run(
        ["bash", "-c", 'ulimit -n 64; exec "$@"', "bash", program.path, "bench", "serve", server.url,
         *map(str, flags), "--tokens-per-word", "1", "--api", "chat", "--quiet"],
        capture_output=True, text=True, timeout=30 * program.patience)
    assert done.returncode == 1 and why in done.stderr and "ulimit -n" in done.stderr, done
    assert "0 rejected, 0 failed" in done.stdout or not done.stdout
