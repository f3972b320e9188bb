"""Many streams at once: what each client got, when, and how it ended."""

import asyncio
import dataclasses
import json
import time

import aiohttp


@dataclasses.dataclass
class Outcome:
    status: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    texts: dict = dataclasses.field(default_factory=dict)  # by choice
    finishes: dict = dataclasses.field(default_factory=dict)
    tokens: dict = dataclasses.field(default_factory=dict)  # when logprobs were asked for
    logprobs: dict = dataclasses.field(default_factory=dict)
    usage: dict = None
    error: dict = None  # of an error answer or event
    done: bool = False  # [DONE] was the last line
    left: bool = False  # this client went away by itself
    begin: float = 0.0
    arrivals: list = dataclasses.field(default_factory=list)  # of chunks with text
    seconds: float = 0.0

    @property
    def silence_max(self):
        """The longest time without text, from the request on."""
        moments = [self.begin, *self.arrivals]
        return max((b - a for a, b in zip(moments, moments[1:])), default=0.0)

    def answer(self):
        """Everything that must not depend on where and how often it was computed."""
        usage = {key: value for key, value in (self.usage or {}).items()
                 if key != "prompt_tokens_details"}
        return {"status": self.status, "texts": self.texts, "finishes": self.finishes,
                "tokens": self.tokens, "logprobs": self.logprobs, "usage": usage,
                "error": self.error, "done": self.done}


class Leave(Exception):
    """Raised by an observer: the client closes its connection now."""


def _take_choice(outcome, choice):
    index = choice["index"]
    piece = choice["text"] if "text" in choice else choice["delta"].get("content") or ""
    outcome.texts[index] = outcome.texts.get(index, "") + piece
    found = choice.get("logprobs")
    if found:
        outcome.tokens.setdefault(index, []).extend(found["tokens"])
        outcome.logprobs.setdefault(index, []).extend(found["token_logprobs"])
    if choice["finish_reason"]:
        assert index not in outcome.finishes, f"choice {index} finished twice"
        outcome.finishes[index] = choice["finish_reason"]
    return bool(piece)


def _take_data(outcome, data):
    if data == "[DONE]":
        outcome.done = True
        return
    assert not outcome.done, f"data after [DONE]: {data}"
    chunk = json.loads(data)
    if "error" in chunk:
        outcome.error = chunk["error"]
        return
    outcome.usage = chunk.get("usage") or outcome.usage
    if any([_take_choice(outcome, choice) for choice in chunk["choices"]]):
        outcome.arrivals.append(time.monotonic())


async def _read(response, outcome, observe):
    if not response.content_type.startswith("text/event-stream"):
        whole = json.loads(await response.text())
        outcome.error = whole.get("error")
        outcome.usage = whole.get("usage")
        for choice in whole.get("choices", []):
            _take_choice(outcome, choice)
        return
    async for line in response.content:
        if line.startswith(b"data: "):
            _take_data(outcome, line[6:].strip().decode())
            observe(len(outcome.arrivals))


async def one(session, url, body, observe):
    outcome = Outcome(begin=time.monotonic())
    try:
        async with session.post(url, json=body) as response:
            outcome.status = response.status
            outcome.headers = {key.lower(): value for key, value in response.headers.items()}
            await _read(response, outcome, observe)
    except Leave:
        outcome.left = True
    except (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError) as broken:
        outcome.error = {"type": "connection", "message": repr(broken)}
    outcome.seconds = time.monotonic() - outcome.begin
    return outcome


def run(url, bodies, observe=lambda index, count: None, during=None, limit=120.0):
    """All `bodies` at once; their outcomes, in order. `observe` is told after each chunk of text how
    many chunks the stream of that index has had; `during` is a coroutine function that runs beside
    the streams and is waited for."""

    async def everything():
        timeout = aiohttp.ClientTimeout(total=limit)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector,
                                         read_bufsize=2**20) as session:
            jobs = [one(session, url, body, lambda count, i=i: observe(i, count))
                    for i, body in enumerate(bodies)]
            if during is not None:
                jobs.append(during())
            return (await asyncio.gather(*jobs))[:len(bodies)]

    return asyncio.run(everything())


def completions(cluster, bodies, **options):
    options.setdefault("limit", 120.0 * cluster.program.patience)
    return run(f"{cluster.gateway}/v1/completions", bodies, **options)


def describe_difference(expected, seen):
    """Where two answers part, short enough to read."""
    if expected == seen:
        return ""
    parts = []
    for key in expected:
        a, b = expected[key], seen[key]
        if a == b:
            continue
        if key in ("texts", "tokens", "logprobs"):
            for index in sorted(set(a) | set(b)):
                x, y = a.get(index, ""), b.get(index, "")
                if x != y:
                    at = next((i for i, (p, q) in enumerate(zip(x, y)) if p != q),
                              min(len(x), len(y)))
                    parts.append(f"{key}[{index}] part at {at} of {len(x)} and {len(y)}: "
                                 f"{x[at:at + 30]!r} became {y[at:at + 30]!r}")
        else:
            parts.append(f"{key}: {a!r} became {b!r}")
    return "; ".join(parts)


def assert_same(expected, seen, context=""):
    """Each answer equals the one of the undisturbed run."""
    wrong = [f"stream {i}: {describe_difference(a.answer(), b.answer())}"
             for i, (a, b) in enumerate(zip(expected, seen, strict=True))
             if a.answer() != b.answer()]
    assert not wrong, f"{len(wrong)} of {len(seen)} differ {context}\n" + "\n".join(wrong[:8])


def assert_complete(outcomes):
    wrong = [(i, o.status, o.error, o.done) for i, o in enumerate(outcomes)
             if o.status != 200 or o.error or not o.done]
    assert not wrong, f"{len(wrong)} of {len(outcomes)} not complete: {wrong[:5]}"
