"""The pages of `pdserve bench`, opened in a browser."""

import copy
import json
import re

import pytest

from harness import browser

METRICS = ("TTFT", "TPOT", "ITL", "E2E")
SHARES = {f"{metric}: share of {'gaps' if metric == 'ITL' else 'requests'} up to" for metric in METRICS}
pytestmark = pytest.mark.skipif(not browser.is_there(), reason="chromium is not there; tools/install_packages.sh "
                                "--test installs it where it is a package")
SECONDS = 100_000  # as many as a summary has at most: more than a day


@pytest.fixture(scope="module")
def measured(start_shared_cluster, program, tmp_path_factory):
    """A page of one load and its summary."""
    cluster, folder = start_shared_cluster(prefill=1, decode=1), tmp_path_factory.mktemp("pages")
    done = program.run("bench", "serve", cluster.gateway, "--quiet", "--rate", 40, "--seconds", "3s",
                       "--output-tokens", "5:20", "--slo", "ttft=300ms,tpot=50ms",
                       "--json", folder / "a.json", "--html", folder / "a.html")
    assert done.returncode == 0, done.stderr
    return folder / "a.html", json.loads((folder / "a.json").read_text())


@pytest.fixture
def compared(program, tmp_path):
    """Two summaries beside each other: the page, and what the terminal shows."""
    def run(a, b):
        for name, summary in (("a", a), ("b", b)):
            (tmp_path / f"{name}.json").write_text(json.dumps(summary))
        done = program.run("bench", "compare", tmp_path / "a.json", tmp_path / "b.json",
                           "--html", tmp_path / "both.html")
        assert done.returncode == 0, done.stderr
        return open_page(program, tmp_path / "both.html"), done.stdout
    return run


def open_page(program, path):
    page = browser.Page(path, 60 * program.patience)
    # The last line of the script says how many pictures there are.
    drawn = re.search(r'<body[^>]* data-drawn="(\d+)"', page.document)
    assert drawn and 'id="trouble"' not in page.shown, (page.console, page.shown[-600:])
    assert not [line for line in page.console if "rror" in line], page.console
    assert int(drawn[1]) == len(page.plots())
    assert "NaN" not in page.shown and "undefined" not in page.shown and "Infinity" not in page.shown
    return page


def lines_in(picture):
    return re.findall(r'<path d="([^"]*)" fill="none"', picture)


def test_a_load_has_all_its_plots(measured, program):
    path, summary = measured
    page = open_page(program, path)
    plots = page.plots()
    assert set(plots) == {"Percentiles", *SHARES, "Requests per second, by when they were due",
                          "Output tokens per second"}
    assert len(lines_in(plots["Percentiles"])) == 4
    requests = plots["Requests per second, by when they were due"]
    assert re.findall(r"<title>(\w[\w ]*)</title>", requests) == [
        "offered", "accepted", "completed", "within limits", "rejected", "failed"]
    # Three whole seconds were sent, and the answers that came after them are no fourth.
    assert all(line.count("L") == 2 for line in lines_in(requests))
    assert "limit 300 ms" in page.shown and "limit 50 ms" in page.shown
    assert "per second of the" in page.shown and summary["setting"]["seed"] in page.shown


def test_two_loads_show_in_what_they_differ(measured, compared):
    _, a = measured
    a, b = copy.deepcopy(a), copy.deepcopy(a)
    a["slo_ms"] = {"ttft": a["ttft_ms"]["p90"], "tpot": a["tpot_ms"]["p90"], "e2e": None}
    b["slo_ms"] = {"ttft": a["ttft_ms"]["p50"], "tpot": None, "e2e": None}
    b["setting"]["arrivals"] = "closed loop, 7 at once"
    page, text = compared(a, b)
    plots = page.plots()
    assert SHARES < set(plots) and {f"{metric}: percentiles" for metric in METRICS} < set(plots)
    assert {f"{run}: Output tokens per second" for run in "AB"} < set(plots)
    assert len(plots) == 12
    for shown in (page.shown, text):
        assert "closed loop, 7 at once" in shown and "Goodput is not compared" in shown
        assert "TTFT p99, ms" in shown
    assert "limit of A" in plots["TTFT: share of requests up to"]
    assert "limit of B" in plots["TTFT: share of requests up to"]
    assert "limit of A" in plots["TPOT: share of requests up to"]
    assert "limit of B" not in plots["TPOT: share of requests up to"]
    assert "limit" not in plots["E2E: share of requests up to"]


def test_a_day_is_drawn_as_means(measured, compared, tmp_path):
    _, a = measured
    long = copy.deepcopy(a)
    long["sending_s"], long["length_s"] = SECONDS - 3, SECONDS
    long["seconds"] = [[10, 9, 8, 1, 0, 9, 100.5 + second % 7] for second in range(SECONDS)]
    page, _ = compared(a, long)
    requests = page.plots()["B: Requests per second, by when they were due, means of 50 s"]
    assert all(1000 < line.count("L") < 2000 for line in lines_in(requests))
    assert (tmp_path / "both.html").stat().st_size < 300_000


def test_a_load_that_the_server_refused(measured, compared):
    _, a = measured
    b = copy.deepcopy(a)
    nothing = {key: 0 for key in a["ttft_ms"]} | {"quantiles": []}
    for key in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"):
        b[key] = nothing
    b["requests"] |= {"offered": 20, "completed": 0, "rejected": 0, "failed": 20, "timed_out": 0,
                      "within_slo": 0, "accepted": 0, "refused": 20}
    b["first_error"] = "HTTP 400: <b>too long</b>"
    b["errors"] = {"HTTP 400: <b>too long</b>": 15}
    b["sending_s"] = b["length_s"] = 0
    b["seconds"] = [[20, 0, 0, 0, 20, 0, 0]]
    page, _ = compared(a, b)
    assert "20 of 20 requests were refused" in page.shown
    assert "HTTP 400: &lt;b&gt;too long&lt;/b&gt;" in page.shown
    assert re.search(r"<td>TTFT p50, ms</td><td>[\d.,]+</td><td>-</td><td>-</td>", page.shown)
    assert "other messages" in page.shown and "20 offered at once" in page.shown
