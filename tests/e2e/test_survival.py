"""Instances die, hang and come back: no stream loses or doubles a token (G1 to G5)."""

import signal

import pytest

from harness import prompts, streams
from harness.background import in_background
from harness.faults import KillAt, burst, during_handoff, freeze_all, thaw_all, wait_in_flight
from harness.processes import wait_until

STREAM_TOKENS = 300
# Silence is noticed 2 s after the last question, asked every 0.5 s; the request then goes elsewhere,
# is prefilled and joins within the rest (G1: 3 s, and the resume).
SILENCE_S = 3.0 + 1.0


@pytest.fixture(scope="module")
def shared(start_shared_cluster):
    """Two and two; whatever happens to its instances, the same cluster goes on to the next test. The
    slowest kernels: with the fast ones an instance is done before the test has read the token at
    which it is to die."""
    return start_shared_cluster(prefill=2, decode=2, config={"model": {"kernels": "reference"}})


@pytest.fixture
def cluster(shared):
    """Complete and idle before and after each test; one substitute per death, nobody else
    restarted, no request failed."""
    shared.wait_complete()
    shared.wait_idle()
    before = {i.id: i.pid for i in shared.instances()}
    deaths = shared.deaths
    yield shared
    shared.wait_complete()
    shared.wait_idle()
    after = {i.id: i.pid for i in shared.instances()}
    died = shared.deaths - deaths
    assert shared.status()["substitutes"] == shared.deaths
    assert len(before.keys() - after.keys()) == len(after.keys()) - len(before.keys() & after.keys())
    assert len(before.keys() - after.keys()) <= died
    assert all(after[i] == before[i] for i in before.keys() & after.keys())
    assert shared.check_metrics()["pdserve_requests_failed_total"] == 0


def long_streams(seed, count, tokens=STREAM_TOKENS):
    return prompts.bodies(seed, count, tokens=tokens, prompt_tokens=(1, 120))


def undisturbed(cluster, bodies):
    outcomes = streams.completions(cluster, bodies)
    streams.assert_complete(outcomes)
    return outcomes


def faults_of(cluster):
    return cluster.metrics()["pdserve_leg_faults_total"]


def grown(before, after):
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def silent(cluster):
    return cluster.metrics()["pdserve_instances_silent"]


def assert_serves(cluster, instance):
    """Requests reach the instance, and it works on them."""
    before = cluster.ask(instance)
    known = cluster.metrics()
    streams.assert_complete(burst(cluster, [prompts.story(200)] * 8))
    after = cluster.ask(instance)
    assert after["steps"] > before["steps"], (
        f"{instance} got nothing to do: {before}, {after}; {grown(known, cluster.metrics())}")


@pytest.mark.heavy
def test_decode_killed_at_a_random_token(cluster, rng, scaled):
    """Both decode instances die at a random token of a random one of 20 streams, again and again on
    one cluster; the streams in their hands go on on the substitutes. At the same moment, because a
    request that went from one to the other would meet two deaths and not be tried again (G8)."""
    faults = faults_of(cluster)
    for attempt in range(scaled(10)):
        bodies = long_streams(rng.randrange(2**40), 20)
        expected = undisturbed(cluster, bodies)
        known = {i.id for i in cluster.instances()}
        moment = rng.randrange(20), rng.randrange(1, STREAM_TOKENS // 2)
        plan = [(*moment, victim) for victim in cluster.instances("decode")]
        seen = streams.completions(cluster, bodies, observe=KillAt(cluster, plan))
        streams.assert_same(expected, seen, f"in round {attempt}, kills {plan}")
        cluster.wait_complete()
        for new in [i for i in cluster.instances() if i.id not in known]:
            assert new.role == "decode"
            assert_serves(cluster, new)
        cluster.wait_idle()
    hit = faults_of(cluster) - faults
    assert hit >= scaled(10) * 10, f"the kills met only {hit} streams"


def test_decode_killed_under_whole_answers(cluster, rng):
    """The tokens of an answer in one piece leave a decode instance together: those that die with it
    are computed again, and the answer is the same. How many are under way at the stream's token
    depends on how fast this client is: until ten have been met."""
    faults = faults_of(cluster)
    for attempt in range(8):
        bodies = long_streams(rng.randrange(2**40), 4) + prompts.bodies(
            rng.randrange(2**40), 12, tokens=STREAM_TOKENS, prompt_tokens=(1, 120), stream=False)
        expected = streams.completions(cluster, bodies)
        assert [outcome.status for outcome in expected] == [200] * len(bodies)
        moment = rng.randrange(1, STREAM_TOKENS // 2)
        plan = [(0, moment, victim) for victim in cluster.instances("decode")]
        seen = streams.completions(cluster, bodies, observe=KillAt(cluster, plan))
        streams.assert_same(expected, seen, f"in round {attempt}, kills {plan}")
        cluster.wait_complete()
        cluster.wait_idle()
        if faults_of(cluster) - faults >= 10:
            return
    pytest.fail("the kills met hardly any answer")


@pytest.mark.heavy
def test_prefill_killed_at_a_random_moment(cluster, rng, scaled):
    """A prefill instance dies while 40 prompts come in: before first tokens, while KV waits, or
    after it has left."""
    for attempt in range(scaled(6)):
        bodies = prompts.bodies(rng.randrange(2**40), 40, tokens=60)
        expected = undisturbed(cluster, bodies)
        victim = rng.choice(cluster.instances("prefill"))
        plan = [(rng.randrange(40), rng.randrange(1, 4), victim)]
        seen = streams.completions(cluster, bodies, observe=KillAt(cluster, plan))
        streams.assert_same(expected, seen, f"in round {attempt}, kills {plan}")
        cluster.wait_complete()
        cluster.wait_idle()


def test_prefill_killed_before_its_first_token(cluster, rng):
    """The prompts were sent to instances that never answered and then died, all of them."""
    bodies = prompts.bodies(rng.randrange(2**40), 6, tokens=40)
    expected = undisturbed(cluster, bodies)
    victims = cluster.instances("prefill")
    freeze_all(cluster, victims)
    join = in_background(lambda: streams.completions(cluster, bodies))
    wait_in_flight(cluster, 6)
    for victim in victims:
        cluster.kill(victim)
    streams.assert_same(expected, join())


@pytest.mark.parametrize("round_", range(3))
def test_prefill_killed_during_handoff(cluster, rng, round_):
    (body,) = long_streams(rng.randrange(2**40), 1, 80)
    expected = undisturbed(cluster, [body])

    def disturb(prefill, decodes):
        cluster.kill(prefill)
        thaw_all(cluster, decodes)
    streams.assert_same(expected, during_handoff(cluster, body, disturb))


def test_decode_killed_during_handoff(cluster, rng):
    (body,) = long_streams(rng.randrange(2**40), 1, 80)
    expected = undisturbed(cluster, [body])

    def disturb(_, decodes):
        for decode in decodes:
            cluster.kill(decode)
    streams.assert_same(expected, during_handoff(cluster, body, disturb))


@pytest.mark.parametrize("role", ["decode", "prefill"])
@pytest.mark.parametrize("comes_back", [True, False], ids=["resumed", "replaced"])
def test_frozen_instance(cluster, rng, role, comes_back):
    """SIGSTOP: its requests go on elsewhere within seconds. It comes back and holds nothing, or does
    not and is replaced."""
    patience = cluster.program.patience
    bodies = long_streams(rng.randrange(2**40), 16)
    expected = undisturbed(cluster, bodies)
    victim = cluster.instances(role)[0]
    if role == "prefill":
        cluster.signal(victim, signal.SIGSTOP)
    join = in_background(lambda: streams.completions(cluster, bodies))
    if role == "decode":
        # By what the instance says: a client that counts tokens may be far behind it, and one that
        # has finished its work is silent to nobody.
        wait_until(lambda: any(cluster.held(victim)), 30 * patience, "it has nothing to do")
        cluster.signal(victim, signal.SIGSTOP)
    wait_until(lambda: silent(cluster) == 1, SILENCE_S * patience, "nobody noticed")
    if comes_back:
        cluster.thaw(victim)
    seen = join()
    streams.assert_same(expected, seen)
    assert max(o.silence_max for o in seen) <= SILENCE_S * patience
    if comes_back:
        wait_until(lambda: silent(cluster) == 0, SILENCE_S * patience, "still taken for silent")
    else:
        cluster.deaths += 1  # by the controller's hand
        wait_until(lambda: victim.id not in {i.id for i in cluster.instances()}, 15 * patience,
                   "the frozen instance given up")


def test_all_of_a_role_die_and_return(cluster, rng):
    for role in ("prefill", "decode"):
        bodies = long_streams(rng.randrange(2**40), 12, 120)
        expected = undisturbed(cluster, bodies)
        for victim in cluster.instances(role):
            cluster.kill(victim)
        streams.assert_same(expected, streams.completions(cluster, bodies), f"without {role}")
        cluster.wait_complete()


def test_stop_string_across_the_seam(cluster, rng):
    """Text held back for a stop string when its instance dies is neither lost nor doubled."""
    body = {"prompt": "One day, Lily and", "max_tokens": 200, "temperature": 0, "stream": True,
            "ignore_eos": True, "stream_options": {"include_usage": True}}
    (free,) = undisturbed(cluster, [body])
    text = free.texts[0]
    at = next(i for i in range(len(text) * 2 // 3, len(text) - 12)
              if text.index(text[i:i + 12]) == i)
    stopped = {**body, "stop": [text[at:at + 12], "@@@@@@@@"]}
    expected = undisturbed(cluster, [stopped])
    assert expected[0].texts == {0: text[:at]} and expected[0].finishes == {0: "stop"}
    for _ in range(3):
        at_chunk = rng.randrange(1, 60)
        plan = [(0, at_chunk, victim) for victim in cluster.instances("decode")]
        seen = streams.completions(cluster, [stopped], observe=KillAt(cluster, plan))
        streams.assert_same(expected, seen)
        cluster.wait_complete()


@pytest.mark.parametrize("kernels", ["reference", "auto"])
def test_bf16_goes_on_with_the_same_tokens(start_cluster, rng, kernels):
    """The same with BF16 weights and KV: rounding, too, is the same wherever it is done. Two instances
    die each time, at the same moment: a request that met both deaths would not be tried again (G8)."""
    cluster = start_cluster(prefill=2, decode=2,
                            config={"model": {"dtype": "bf16", "kernels": kernels}})
    for _ in range(3):
        bodies = long_streams(rng.randrange(2**40), 12)
        expected = undisturbed(cluster, bodies)
        moment = rng.randrange(12), rng.randrange(1, STREAM_TOKENS // 2)
        plan = [(*moment, victim) for victim in rng.sample(cluster.instances(), 2)]
        streams.assert_same(expected, streams.completions(cluster, bodies,
                                                          observe=KillAt(cluster, plan)))
        cluster.wait_complete()
    cluster.check_and_end()


class KillWhereItRuns:
    """An observer of streams on one decode instance: kills that when the first of them has begun, and
    then its substitute when that stream goes on there."""

    def __init__(self, cluster):
        self.cluster = cluster
        (self.first,) = cluster.instances("decode")
        self.second = None
        self.chunk = 3

    def __call__(self, index, count):
        if index != 0 or count < self.chunk or self.cluster.deaths == 2:
            return
        if self.cluster.deaths == 0:
            self.cluster.kill(self.first)
        elif self.second:
            self.cluster.kill(self.second)
        else:
            busy = [d for d in self.cluster.instances("decode") if d.state == "serving"
                    and d.id != self.first.id and self.cluster.held(d)[1] > 0]
            if busy:
                (self.second,) = busy
                self.chunk = count + 3  # the first may still be P's


def test_a_request_that_two_die_under_takes_no_third_down(start_cluster, rng):
    """G8: it ends with an error that says so; whoever met one death at most goes on. Many at a time,
    or the substitute is done with them before it is killed."""
    cluster = start_cluster(prefill=1, decode=1, config={"model": {"kernels": "reference"}})
    bodies = long_streams(rng.randrange(2**40), 16)
    expected = undisturbed(cluster, bodies)
    seen = streams.completions(cluster, bodies, observe=KillWhereItRuns(cluster))
    assert cluster.deaths == 2
    ended = [o for o in seen if o.error]
    assert ended and {o.error["code"] for o in ended} == {"poison_request"}, ended
    for whole, outcome in zip(expected, seen):
        if outcome.error:
            assert outcome.status == 200 and not outcome.done
            assert whole.texts[0].startswith(outcome.texts[0])
        else:
            streams.assert_same([whole], [outcome])
    m = cluster.check_metrics()
    assert m["pdserve_poison_requests_total"] == len(ended) == m["pdserve_requests_failed_total"]
    assert m["pdserve_restarts_total"] >= len(ended)
    cluster.wait_complete()
    assert cluster.status()["substitutes"] == cluster.deaths == 2
    streams.assert_same(expected, streams.completions(cluster, bodies))
    cluster.check_and_end()
