"""Moments at which instances are hurt."""

import threading

from . import streams
from .background import in_background
from .processes import wait_until


class KillAt:
    """An observer of streams: kills each instance when its stream has had that many chunks. Several of
    one moment are stopped before the first dies: what it ran must not begin on the next, or a request
    would meet two deaths."""

    def __init__(self, cluster, plan):
        self.cluster, self.plan = cluster, list(plan)  # (stream, chunk, instance)

    def __call__(self, index, count):
        due = [moment for moment in self.plan if moment[0] == index and moment[1] <= count]
        for moment in due:
            self.plan.remove(moment)
        victims = [victim for _, _, victim in due]
        if len(victims) > 1:
            freeze_all(self.cluster, victims)
        for victim in victims:
            self.cluster.kill(victim)


def freeze_all(cluster, instances):
    for instance in instances:
        cluster.freeze(instance)


def thaw_all(cluster, instances):
    for instance in instances:
        cluster.thaw(instance)


def wait_in_flight(cluster, count):
    wait_until(lambda: cluster.metrics()["pdserve_requests_in_flight"] == count,
               10 * cluster.program.patience, f"{count} requests in flight")


def under_way(cluster, bodies):
    """All `bodies` as streams that have begun and have not ended, however fast the model is. Returns
    what waits for their outcomes."""
    decodes = cluster.instances("decode")
    freeze_all(cluster, decodes)
    join = in_background(lambda: streams.completions(cluster, bodies))
    wait_in_flight(cluster, len(bodies))
    thaw_all(cluster, decodes)
    return join


def burst(cluster, bodies):
    """All `bodies` at the same moment, however slowly this client sends them: P's are frozen until
    the gateway has them all. At most as many as P's have slots."""
    prefills = cluster.instances("prefill")
    freeze_all(cluster, prefills)
    join = in_background(lambda: streams.completions(cluster, bodies))
    wait_in_flight(cluster, len(bodies))
    thaw_all(cluster, prefills)
    return join()


def during_handoff(cluster, body, disturb):
    """One stream whose KV waits on P while every D that could pull it is frozen; then
    `disturb(prefill, decodes)`. The stream's outcome."""
    decodes = cluster.instances("decode")
    freeze_all(cluster, decodes)
    first = threading.Event()
    join = in_background(
        lambda: streams.completions(cluster, [body], observe=lambda i, n: first.set()))
    assert first.wait(20 * cluster.program.patience), f"no first token\n{cluster.logs()}"
    holders = [p for p in cluster.instances("prefill") if cluster.held(p)[0] == 1]
    assert len(holders) == 1, f"P's that hold the KV: {holders}"
    disturb(holders[0], decodes)
    return join()
