"""KV that is not what P computed is never decoded (G3): the answer is the undisturbed one, and it is counted."""

import pytest

from harness import kv_memory, prompts, streams
from harness.faults import during_handoff, thaw_all


@pytest.fixture(scope="module")
def cluster(start_shared_cluster):
    return start_shared_cluster(prefill=1, decode=1)


def flip_a_bit(memory, start, rng):
    at = start + 1024 + rng.randrange(4096)
    memory[at] ^= 1 << rng.randrange(8)


def truncate(memory, start, rng):
    """The rest never arrived."""
    at = start + 1024 + rng.randrange(8192)
    memory[at:start + 65536] = bytes(start + 65536 - at)


def other_epoch(memory, start, rng):
    """A late write of an earlier attempt."""
    kv_memory.set_word(memory, start, 1, kv_memory.word(memory, start, 1) - 1)


def other_key(memory, start, rng):
    kv_memory.set_word(memory, start, 2, rng.randrange(2**64))


def other_weights(memory, start, rng):
    kv_memory.set_word(memory, start, 5, kv_memory.word(memory, start, 5) ^ 1)


def wrong_length(memory, start, rng):
    kv_memory.set_word(memory, start, 6, 2**63 + rng.randrange(1000))


def wipe(memory, start, rng):
    """The range was given up."""
    memory[start:start + 8] = bytes(8)


def another_prompts_kv(memory, start, rng):
    """Rows from elsewhere, of plausible values."""
    memory[start + 2048:start + 4096] = memory[start + 6144:start + 8192]


def failures(cluster):
    (decode,) = cluster.instances("decode")
    text = cluster.http.get(f"http://{decode.address}/metrics",
                            headers=cluster._authorization()).text
    (line,) = [w for w in text.splitlines() if w.startswith("pdserve_kv_integrity_failures_total")]
    return float(line.split()[-1])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, other_epoch, other_key, other_weights,
                                    wrong_length, wipe, another_prompts_kv],
                         ids=lambda f: f.__name__)
def test_damaged_kv_is_never_decoded(cluster, rng, damage):
    (body,) = prompts.bodies(rng.randrange(2**40), 1, tokens=60, prompt_tokens=(100, 120))
    expected = streams.completions(cluster, [body])
    streams.assert_complete(expected)
    before = failures(cluster)

    def disturb(prefill, decodes):
        with kv_memory.the_range(prefill.pid) as (memory, start):
            damage(memory, start, rng)
        thaw_all(cluster, decodes)
    seen = during_handoff(cluster, body, disturb)
    streams.assert_same(expected, seen, damage.__name__)
    if damage is not wipe:  # a range that was given up is no failure of integrity
        assert failures(cluster) > before
    cluster.wait_idle()
    assert cluster.check_metrics()["pdserve_requests_failed_total"] == 0
    assert cluster.status()["substitutes"] == 0
