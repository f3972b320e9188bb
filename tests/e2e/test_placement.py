"""Where requests decode: on a D that can hold them, and what happens when its memory runs out (G15)."""

import json

from harness import prompts, streams
from harness.processes import wait_until

BLOCK_BYTES = 16 * 5 * 2 * 4 * 8 * 4  # of stories260K
EVICTIONS_MAX = 2


def small(blocks, tmp_path, **sections):
    return {"decode": {"kv_memory": f"{blocks * BLOCK_BYTES}B"},
            "gateway": {"access_log": str(tmp_path / "access.log")},
            "prefill": {"slots": 32}, **sections}


def records(tmp_path, count):
    """The access log, when it has `count` lines."""
    path = tmp_path / "access.log"
    wait_until(lambda: len(path.read_text().splitlines()) >= count, 5, "all requests are logged")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_burst_goes_where_it_fits(start_cluster, tmp_path):
    """Three D's of 64 blocks, 40 requests of 5 to 28 blocks at once: each is served, none is computed
    anew but those that were evicted, and busy is no fault."""
    cluster = start_cluster(prefill=1, decode=3, config=small(64, tmp_path))
    bodies = prompts.bodies(11, 40, tokens=60, prompt_tokens=(20, 380))
    expected = [streams.completions(cluster, [body])[0] for body in bodies]
    streams.assert_complete(expected)
    before = cluster.metrics()
    streams.assert_same(expected, streams.completions(cluster, bodies))
    after = cluster.check_metrics()
    assert after["pdserve_leg_faults_total"] == before["pdserve_leg_faults_total"]
    burst = records(tmp_path, 80)[40:]
    assert {r["crashes"] for r in burst} == {0}
    assert all(r["restarts"] == r["evictions"] <= EVICTIONS_MAX for r in burst), burst
    assert len({r["decode"] for r in burst}) == 3, "all D's had a share"
    # A D is asked where it is known to fit: few questions are in vain.
    assert sum(r["rejections"] for r in burst) <= 2 * len(burst), [r["rejections"] for r in burst]
    cluster.check_and_end()


def test_memory_that_runs_out_shows_but_changes_no_answer(start_cluster, tmp_path):
    """D has learned that outputs are short; then all are long, greedy and seeded."""
    cluster = start_cluster(prefill=1, decode=1, config=small(80, tmp_path))
    short = prompts.bodies(3, 60, tokens=4, prompt_tokens=(1, 30))
    streams.assert_complete(streams.completions(cluster, short))
    long = prompts.bodies(5, 20, tokens=300, prompt_tokens=(1, 60))
    seen = streams.completions(cluster, long)
    streams.assert_complete(seen)
    burst = records(tmp_path, 80)[60:]
    evictions = [r["evictions"] for r in burst]
    assert 0 < sum(evictions) and max(evictions) <= EVICTIONS_MAX, evictions
    assert all(r["restarts"] == r["evictions"] and r["crashes"] == 0 for r in burst), burst
    assert cluster.check_metrics()["pdserve_evictions_total"] == sum(evictions)
    alone = [streams.completions(cluster, [body])[0] for body in long]
    streams.assert_same(alone, seen)
    cluster.check_and_end()
