"""Prompts and requests, drawn from a seed."""

import random

WORDS = ("once upon a time there was little girl named Lily who loved to play in the park with her "
         "big red ball one day she saw dog and cat they were very happy mom said it is bed now sun "
         "shining bright birds sang tree house").split()
VOCABULARY = 512  # of stories260K; ids below 3 are special
CONTEXT = 512

# Around every boundary that the engine has: blocks of 16 tokens, chunks of 256, attention tiles of 64.
EDGES = sorted({max(1, edge + d) for edge in (1, 16, 32, 48, 64, 128, 192, 256, 272, 320, 384)
                for d in (-1, 0, 1)})


def text(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize()


def ids(rng, tokens):
    """A prompt of exactly that many tokens."""
    return [1] + [rng.randrange(3, VOCABULARY) for _ in range(tokens - 1)]


def sampling(rng):
    """Greedy or seeded, with any of the sampler's options."""
    if rng.random() < 0.4:
        return {"temperature": 0}
    fields = {"temperature": rng.choice([0.5, 0.8, 1.0, 1.3]), "seed": rng.randrange(2**40)}
    for name, values in (("top_p", (0.5, 0.9)), ("top_k", (5, 40)), ("min_p", (0.02, 0.1)),
                         ("presence_penalty", (0.5,)), ("frequency_penalty", (0.3, 1.0)),
                         ("repetition_penalty", (1.1, 1.3))):
        if rng.random() < 0.25:
            fields[name] = rng.choice(values)
    return fields


def bodies(seed, count, *, tokens=24, stream=True, prompt_tokens=None, **fields):
    """`count` completion requests of many shapes; the same for the same arguments."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        length = EDGES[i % len(EDGES)] if prompt_tokens is None else rng.randint(*prompt_tokens)
        length = min(length, CONTEXT - tokens)
        words = i % 2 == 1 and length < 200  # text and ids by turns
        body = {"prompt": text(rng, max(1, length // 2)) if words else ids(rng, length),
                "max_tokens": tokens, "ignore_eos": True, **sampling(rng)}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if i % 3 == 0:
            body["logprobs"] = 0
        made.append(body | fields)
    return made


def story(tokens, **fields):
    """One long stream."""
    return {"prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}, **fields}
