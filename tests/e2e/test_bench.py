"""The load tool against a cluster of real processes."""

import json
import signal
import subprocess

import pytest

from harness.processes import wait_until


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster(prefill=1, decode=1)


@pytest.fixture
def serve(cluster, tmp_path):
    """Runs a load; its summary and its records, ordered as they were sent."""
    def run(*flags):
        done = cluster.program.run(
            "bench", "serve", cluster.gateway, "--quiet", "--json", tmp_path / "s.json",
            "--records", tmp_path / "r.jsonl", "--html", tmp_path / "r.html", *flags)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
        return (json.loads((tmp_path / "s.json").read_text()),
                sorted(records, key=lambda record: record["index"]))
    return run


def test_an_open_loop(serve, cluster):
    before = cluster.metrics()["pdserve_requests_completed_total"]
    summary, records = serve("--rate", 40, "--seconds", "3s", "--input-tokens", "20:90",
                             "--output-tokens", "5:20", "--slo", "ttft=10s,tpot=1s")
    requests = summary["requests"]
    assert requests["offered"] == requests["completed"] == requests["within_slo"] == len(records)
    assert 70 < len(records) < 180
    # Two more are asked before, to learn how the server counts.
    asked = cluster.metrics()["pdserve_requests_completed_total"] - before
    assert 2 <= asked - len(records) <= 3
    for record in records:
        assert 5 <= record["output_tokens"] <= 20
        assert 10 < record["prompt_tokens"] < 150  # words differ in their tokens, and from run to run
        assert 0 <= record["ttft_ms"] <= record["e2e_ms"]
        assert record["sent_s"] >= record["due_s"]
    assert summary["ttft_ms"]["count"] == len(records)
    assert summary["sending_s"] == 3 and summary["length_s"] >= 3
    assert summary["per_second"]["offered"] == pytest.approx(len(records) / 3)
    assert summary["per_second"]["goodput"] == pytest.approx(len(records) / summary["length_s"])
    assert summary["tokens"]["output"] == sum(r["output_tokens"] for r in records)
    assert summary["setting"]["api"] == "completions, streamed"  # the model has no chat template


def test_turns_reuse_what_was_said(serve):
    summary, records = serve("--dataset", "multi-turn", "--turns", "4", "--prefix-tokens", 60,
                             "--input-tokens", 20, "--output-tokens", 10, "--requests", 10,
                             "--concurrency", 3)
    assert len(records) == 40
    for record in records:
        if record["turn"] > 0:
            assert record["cached_tokens"] > 0, record
    assert summary["tokens"]["cached"] > summary["tokens"]["prompt"] * 0.4


def test_a_second_run_finds_nothing_of_the_first(serve):
    def run(*seeds):
        summary, records = serve("--requests", 12, "--concurrency", 2, "--input-tokens", "40:120",
                                 "--output-tokens", "2:9", *seeds)
        return summary, sorted((r["conversation"], r["output_tokens"]) for r in records)
    first, lengths = run()
    assert first["tokens"]["cached"] == 0
    second, again = run()
    assert second["tokens"]["cached"] == 0
    assert again == lengths
    # The words of the second once more, as its summary says how to ask for them.
    third, again = run(*second["setting"]["seed"].split())
    assert third["tokens"]["cached"] > 0.3 * third["tokens"]["prompt"]
    assert again == lengths
    assert run("--seed", 5)[1] != lengths
    assert run("--seed", 5)[0]["tokens"]["cached"] > 0


def test_a_trace_and_a_comparison(serve, program, tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(
        json.dumps({"timestamp": at, "input_length": 30, "output_length": 8, "hash_ids": [at]})
        for at in range(0, 4000, 100)))
    first, records = serve("--dataset", f"mooncake:{trace}", "--speed-up", 4)
    assert len(records) == 40 and first["requests"]["completed"] == 40
    assert records[-1]["due_s"] == pytest.approx(0.975, abs=1e-6)
    (tmp_path / "s.json").rename(tmp_path / "first.json")
    serve("--dataset", f"azure:{write_azure(tmp_path)}", "--concurrency", 2)
    both = program.run("bench", "compare", tmp_path / "first.json", tmp_path / "s.json",
                       "--html", tmp_path / "both.html")
    assert both.returncode == 0 and "TTFT p99, ms" in both.stdout
    assert "first.json" in (tmp_path / "both.html").read_text()


def write_azure(folder):
    path = folder / "azure.csv"
    rows = [f"2023-11-16 18:17:{second:02}.5000000,{20 + second},5" for second in range(20)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return path


def test_a_recording_of_lengths_alone(serve, cluster, program, tmp_path):
    path = tmp_path / "lengths.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n" +
                    "".join(f"{20 + i},5,{25 + i},1\n" for i in range(12)))
    for when in (("--concurrency", 3), ("--rate", 50)):
        summary, _ = serve("--dataset", f"azure:{path}", *when)
        assert summary["requests"]["completed"] == 12
    for flags, why in (((), "say --rate 10, or --concurrency 8"),
                       (("--rate", 1, "--trace-from", "1s"), "no times to begin at")):
        done = program.run("bench", "serve", cluster.gateway, "--dataset", f"azure:{path}", *flags)
        assert done.returncode == 1 and why in done.stderr


def test_flags_that_the_dataset_does_not_heed(program):
    """Whoever measures "cached prompts" with the flags of another dataset measures something else."""
    for flags, why in ((("--prefix-tokens", 300), "--prefix-tokens: is not for --dataset random, but for shared-prefix, multi-turn"),
                       (("--turns", 3), "but for multi-turn"),
                       (("--dataset", "multi-turn", "--prefixes", 2), "--prefixes: is not for --dataset multi-turn"),
                       (("--dataset", "azure:none.csv", "--input-tokens", 5), "--input-tokens: is not for --dataset azure"),
                       (("--dataset", "random:azure.csv"), "'random:azure.csv': only mooncake"),
                       (("--whole", "--slo", "tpot=5ms"), "--slo: tpot: an answer that comes --whole"),
                       (("--dataset", "nonsense", "--turns", 3), "'nonsense' is none")):
        done = program.run("bench", "serve", "127.0.0.1:1", "--concurrency", 1, *flags)
        assert done.returncode == 1 and why in done.stderr, done


def test_further_fields_reach_the_server(cluster, program, tmp_path):
    done = program.run("bench", "serve", cluster.gateway, "--quiet", "--requests", 2, "--concurrency", 1,
                       "--extra", "temperature=0", "--extra", '{"top_k": "many"}', "--json", tmp_path / "s.json")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert done.returncode == 1 and "no request completed" in done.stderr
    assert summary["setting"]["extra fields"] == '"temperature":0,"top_k":"many"'
    assert all("top_k" in message for message in summary["errors"]), summary["errors"]


def test_rejections_and_failures_are_told_apart(serve, start_cluster, tmp_path, program):
    tight = start_cluster(config={"gateway": {"ttft_limit": "50ms"}, "prefill": {"slots": 1},
                                  "decode": {"batch": 1}})
    done = program.run("bench", "serve", tight.gateway, "--quiet", "--concurrency", 40,
                       "--requests", 200, "--input-tokens", 128, "--output-tokens", 200,
                       "--json", tmp_path / "t.json")
    summary = json.loads((tmp_path / "t.json").read_text())
    requests = summary["requests"]
    assert requests["rejected"] > 0 and requests["failed"] == 0, (summary["errors"], done.stderr)
    assert requests["completed"] + requests["rejected"] == requests["offered"] == 200
    assert all(message.startswith("HTTP 429") for message in summary["errors"])
    tight.check_and_end()


def test_a_load_that_does_not_fit_shows_what_the_server_said(cluster, program, tmp_path):
    # The common prefix alone, of 512 tokens, is as long as the model's context.
    done = program.run("bench", "serve", cluster.gateway, "--quiet", "--dataset", "multi-turn",
                       "--requests", 20, "--concurrency", 4, "--json", tmp_path / "s.json")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert done.returncode == 1
    assert summary["requests"]["refused"] == summary["requests"]["failed"] == 20
    assert summary["first_error"].startswith("HTTP 400: ") and "512" in summary["first_error"]
    assert "refused       20 of 20 requests" in done.stdout
    assert summary["first_error"] in done.stdout and summary["first_error"] in done.stderr
    assert "have none" in done.stdout


def test_a_closed_loop_lasts_its_time_unless_its_recording_ends(serve, tmp_path):
    summary, records = serve("--concurrency", 4, "--seconds", "2s", "--output-tokens", 3)
    assert summary["sending_s"] == 2 and records[-1]["due_s"] > 1.5
    summary, _ = serve("--concurrency", 4, "--seconds", "60s", "--dataset", f"azure:{write_azure(tmp_path)}")
    assert summary["sending_s"] < 50
    assert "20 requests ended before --seconds" in summary["setting"]["remark"]


def test_ctrl_c_reports_what_was_measured(cluster, tmp_path):
    before = cluster.metrics()["pdserve_requests_completed_total"]
    with subprocess.Popen([cluster.program.path, "bench", "serve", cluster.gateway, "--rate", "50",
                           "--seconds", "10m", "--output-tokens", "10", "--json",
                           tmp_path / "s.json"], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        wait_until(lambda: cluster.metrics()["pdserve_requests_completed_total"] > before + 30,
                   30 * cluster.program.patience, "30 requests completed")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "offered" in out
    # Two of those thirty were asked before the load, to learn how the server counts; a third failed then.
    assert json.loads((tmp_path / "s.json").read_text())["requests"]["completed"] >= 27


def test_mistakes_are_named(cluster, program, tmp_path):
    def refused(*flags, url=None):
        done = program.run("bench", "serve", url or cluster.gateway, *flags)
        assert done.returncode == 1 and done.stdout == "", done
        return done.stderr
    assert "--rate" in refused()
    assert "--rate" in refused("--rate", "fast")
    assert "a closed loop has no --rate" in refused("--rate", 1, "--concurrency", 1)
    assert "needs its file" in refused("--dataset", "mooncake")
    assert str(tmp_path / "none") in refused("--dataset", f"azure:{tmp_path / 'none'}")
    assert "'nonsense' is none" in refused("--dataset", "nonsense", "--rate", 1)
    assert "--slo" in refused("--rate", 1, "--slo", "ttft=fast")
    assert "--extra: 'foo' is no field of a body: write KEY=VALUE" in refused("--rate", 1, "--extra", "foo")
    assert "--input-tokens" in refused("--rate", 1, "--input-tokens", "9:3")
    assert "Connection refused" in refused("--rate", 1, url="127.0.0.1:1")
    assert "No such file" in refused("--rate", 1, "--json", tmp_path / "no" / "s.json")
