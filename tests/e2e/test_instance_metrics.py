"""What instances say of themselves: each of their metrics moves with what they hold and do."""

import threading

import httpx

from harness.background import in_background
from harness.processes import wait_until


def metrics_of(cluster, instance):
    secret = (cluster.directory / "secret").read_text().strip()
    text = httpx.get(f"http://{instance.address}/metrics",
                     headers={"authorization": f"Bearer {secret}"}).text
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("pdserve_"): float(value) for name, value in pairs}


def test_what_is_held_and_done(start_cluster):
    cluster = start_cluster(prefill=1, decode=1, config={"prefill": {"slots": 3, "chunk_tokens": 1}})
    (prefill,), (decode,) = cluster.instances("prefill"), cluster.instances("decode")

    def seen(instance, **least):
        """Its metrics once each of these is at least so much."""
        found = {}

        def reached():
            found.update(metrics_of(cluster, instance))
            return all(found[name] >= value for name, value in least.items())
        wait_until(reached, 30 * cluster.program.patience, lambda: f"{least}: {found}", pause=0.001)
        return found

    cluster.wait_idle()
    idle_p, idle_d = metrics_of(cluster, prefill), metrics_of(cluster, decode)
    assert idle_p["slots_total"] == 3 and idle_p["slots_in_use"] == 0
    assert idle_d["blocks_total"] > 0 and idle_d["blocks_in_use"] == idle_d["decode_requests"] == 0
    assert "slots_total" not in idle_d and "blocks_total" not in idle_p

    stop = threading.Event()

    def load():
        rounds = 0
        while not stop.is_set():
            answer = httpx.post(f"{cluster.gateway}/v1/completions", timeout=120, json={
                "prompt": f"{rounds} " + "Once upon a time there was a cat. " * 8, "max_tokens": 200,
                "n": 2, "ignore_eos": True})
            assert answer.status_code == 200, answer.text
            rounds += 1
        return rounds
    work = in_background(load)
    try:
        busy_p = seen(prefill, slots_in_use=1)
        assert busy_p["slots_in_use"] <= 3
        # Prompt and output of 16 tokens a block.
        busy_d = seen(decode, decode_requests=1, blocks_in_use=3)
        assert busy_d["blocks_in_use"] <= busy_d["blocks_total"] and busy_d["decode_requests"] <= 2
    finally:
        stop.set()
    rounds = work()
    cluster.wait_idle()
    end_p, end_d = metrics_of(cluster, prefill), metrics_of(cluster, decode)
    assert end_p["slots_in_use"] == end_d["blocks_in_use"] == end_d["decode_requests"] == 0
    # A prompt of some hundred tokens is as many steps here; two outputs of 200 share theirs.
    assert end_p["engine_steps_total"] - idle_p["engine_steps_total"] >= 60 * rounds
    steps = end_d["engine_steps_total"] - idle_d["engine_steps_total"]
    assert 190 * rounds <= steps <= 410 * rounds, (steps, rounds)
    cluster.check_and_end()
