#!/usr/bin/env python3
"""Makes tests/data/reference/NAME.safetensors: what Hugging Face transformers computes in f32.

    python3 tools/make_reference_vectors.py NAME=FOLDER ... [--out tests/data/reference]
    python3 tools/study_reference_errors.py NAME=FOLDER ...

Needs: pip install torch transformers numpy safetensors tokenizers (CPU is enough).
FOLDER is a Hugging Face folder whose weights are the ones to be tested: those of a GGUF file come
from tools/gguf_to_hf.py. The format of the output, and what the study says, are described in
tests/data/reference/README.md. Same folder, versions and machine: same bytes.
"""

import argparse
import hashlib
import itertools
import json
import pathlib
import platform

import numpy as np
import torch
import transformers

import safetensors_numpy as st
from exact_model import exact

SEED = 20240817
LOGIT_LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200)
LONG_POSITIONS = (15, 16, 17, 63, 64, 65, 127, 128, 129)  # also stored for the longest prompt
GREEDY_PROMPTS = 200
GREEDY_TOKENS = 32
HIDDEN_TOKENS = 20
FULL_VOCAB_MAX = 4096  # above: the top 32 logits and 256 sampled ones of each row
# A greedy step whose two best logits are nearer than this share of the row's largest one, in f32 or
# in f64, is a tie within f32 rounding (README, "Errors"): the next candidate replaces its prompt.
TIE = 3e-5

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


# ---------------------------------------------------------------------------------------- prompts

WHO = ("a little girl named Lily", "a brave dog", "an old fisherman", "two small birds",
       "a boy who loved maps", "a very tired robot", "the baker's daughter", "a shy green frog")
WHERE = ("in a quiet village", "by the sea", "under a big tree", "on top of a hill")
WHAT = ("found a shiny key.", "wanted to learn to sing.", "could not sleep.", "lost a red ball.",
        "made a new friend.", "heard a strange noise.", "planted a tiny seed.")
TOPICS = ("photosynthesis", "the French Revolution", "prime numbers", "how bread rises", "gravity",
          "the water cycle", "binary search", "vaccines", "black holes", "the Silk Road",
          "democracy", "glaciers", "how a bicycle stays upright", "jazz", "volcanoes", "inflation",
          "DNA", "the capital of France", "chess openings", "tea", "neural networks", "whales",
          "the Roman aqueducts", "recycling", "rainbows")
ASKS = ("What is the most important thing to know about {}?", "Explain {} to a child.",
        "Give me three facts about {}.", "Write a short poem about {}.", "Why does {} matter?",
        "List common mistakes people make about {}.", "{}: summarise it in one sentence.",
        "Translate into French: I would like to learn more about {}.",
        "Write a Python function whose docstring mentions {}.")
SYSTEM = ("", "You are a helpful assistant.", "Answer briefly and in plain words.")


def stories():
    for who, where, what in itertools.product(WHO, WHERE, WHAT):
        yield f"Once upon a time, {who} {where} {what} One day,"


def questions():
    for i, (ask, topic) in enumerate(itertools.product(ASKS, TOPICS)):
        system = SYSTEM[i % len(SYSTEM)]
        messages = [{"role": "system", "content": system}] if system else []
        yield [*messages, {"role": "user", "content": ask.format(topic)}]


def flat_ids(encoded):
    ids = encoded["input_ids"] if hasattr(encoded, "keys") else encoded
    return list(ids)


def greedy_candidates(kind, tokenizer, vocab, rng):
    """An endless or long enough sequence of prompts, each a list of ids."""
    if kind == "stories":
        texts = list(stories())
        rng.shuffle(texts)
        # Cut here and there inside a word: prompts of many lengths.
        for text in texts:
            ids = flat_ids(tokenizer(text))
            yield ids[: int(rng.integers(2, len(ids) + 1))]
    elif kind == "chat":
        for messages in questions():
            yield flat_ids(tokenizer.apply_chat_template(messages, add_generation_prompt=True))
    else:
        edges = [1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 66, 95, 96, 97, 127, 128,
                 129, 191, 192, 193, 200]
        while True:
            length = edges.pop(0) if edges else int(rng.integers(1, 160))
            yield rng.integers(0, vocab, length).tolist()


def text_of_length(kind, tokenizer, vocab, length, rng):
    """One prompt of exactly `length` ids for the logits."""
    if kind == "random":
        return rng.integers(0, vocab, length).tolist()
    pieces = list(stories()) if kind == "stories" else [m[-1]["content"] for m in questions()]
    ids = flat_ids(tokenizer(" ".join(rng.permutation(pieces)[:40])))
    return ids[:length]


def kind_of(name):
    return {"stories260K": "stories", "smollm2": "chat"}.get(name, "random")


# ---------------------------------------------------------------------------------------- numbers


def logits_of(model, ids):
    """[len(ids), vocab], in the model's own type."""
    return model(torch.tensor([ids])).logits[0]


def pack(lists):
    offsets = np.cumsum([0] + [len(ids) for ids in lists])
    return np.concatenate(lists).astype(np.int32), offsets.astype(np.int32)


def logit_vectors(model, prompts, rng):
    vocab = model.config.vocab_size
    which, where, values, ids, stats = [], [], [], [], []
    sampled = np.sort(rng.choice(vocab, 256, replace=False)).astype(np.int32)
    for index, prompt in enumerate(prompts):
        length = len(prompt)
        positions = {0, length // 2, max(length - 2, 0), length - 1}
        if length == max(LOGIT_LENGTHS):
            positions.update(LONG_POSITIONS)
        rows = logits_of(model, prompt).numpy()
        for position in sorted(positions):
            row = rows[position]
            wide = row.astype(np.float64)
            which.append(index)
            where.append(position)
            stats.append((np.abs(wide).max(), np.sqrt(np.mean(wide**2)),
                          np.logaddexp.reduce(wide), wide.mean(), wide.std()))
            if vocab > FULL_VOCAB_MAX:
                best = np.argsort(-row, kind="stable")[:32].astype(np.int32)
                ids.append(np.concatenate([best, sampled]))
                row = row[ids[-1]]
            values.append(row)
    result = {"logits.prompt": np.array(which, np.int32),
              "logits.position": np.array(where, np.int32), "logits.values": np.stack(values)}
    if ids:
        result["logits.ids"] = np.stack(ids)
    for column, stat in zip(np.array(stats, np.float32).T, ("max_abs", "rms", "logsumexp", "mean",
                                                           "std")):
        result[f"logits.{stat}"] = np.ascontiguousarray(column)
    return result


def greedy(model, prompt):
    """The continuation with a KV cache, one sequence at a time: ids, runners-up, gaps, scale."""
    inputs, cache, steps = torch.tensor([prompt]), None, []
    for _ in range(GREEDY_TOKENS):
        out = model(inputs, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        row = out.logits[0, -1]
        best = int(torch.argmax(row))
        rest = row.clone()
        rest[best] = -torch.inf
        second = int(torch.argmax(rest))
        steps.append((best, second, float(row[best] - row[second]), float(row.abs().max())))
        inputs = torch.tensor([[best]])
    return [np.array(column) for column in zip(*steps)]


def exact_gaps(exact_model, prompt, best):
    """The gaps of the same steps in f64, in one pass without a cache; negative: f64 differs."""
    rows = logits_of(exact_model, [*prompt, *best[:-1].tolist()])[len(prompt) - 1 :]
    steps = torch.arange(GREEDY_TOKENS)
    chosen = rows[steps, torch.tensor(best)]
    rows[steps, torch.tensor(best)] = -torch.inf
    return (chosen - rows.amax(dim=1)).numpy()


def greedy_vectors(model, exact_model, candidates, count):
    """`exact_model` is the same model in f64: each step must be the same there."""
    prompts, tokens, seconds, gaps, ties, worst = [], [], [], [], 0, 0.0
    for prompt in candidates:
        if len(prompts) == count:
            break
        best, second, gap, scale = greedy(model, prompt)
        exact_gap = exact_gaps(exact_model, prompt, best)
        if np.any(np.minimum(gap, exact_gap) < TIE * scale):
            assert np.all(exact_gap > -TIE * scale), f"f64 says otherwise: {prompt}"
            ties += 1
            continue
        worst = max(worst, float(np.max(np.abs(exact_gap - gap) / scale)))
        prompts.append(prompt)
        tokens.append(best.astype(np.int32))
        seconds.append(second.astype(np.int32))
        gaps.append(gap.astype(np.float32))
    assert len(prompts) == count, f"only {len(prompts)} prompts"
    flat, offsets = pack(prompts)
    generated, gap = np.stack(tokens), np.stack(gaps)
    facts = {
        "greedy_ties_replaced": ties,
        "greedy_gap_error_max_relative": worst,
        "greedy_gap_min": float(gap.min()),
        "greedy_gap_median": float(np.median(gap)),
        "greedy_gap_share_below_0.1": float(np.mean(gap < 0.1)),
        "greedy_distinct_tokens_mean": float(np.mean([len(set(row)) for row in generated])),
        "greedy_distinct_tokens_all": len(np.unique(generated)),
        "greedy_repeats_previous_share": float(np.mean(generated[:, 1:] == generated[:, :-1])),
    }
    return {"greedy.tokens": flat, "greedy.offsets": offsets, "greedy.generated": generated,
            "greedy.second": np.stack(seconds), "greedy.gap": gap}, facts


def hidden_vectors(model, prompt):
    """What leaves each part of the model for one prompt, to find the first wrong one."""
    captured, hooks = {}, []

    def keep(name, module):
        def hook(_, __, output):
            output = output[0] if isinstance(output, tuple) else output
            captured[name] = output.reshape(len(prompt), -1).numpy().copy()
        hooks.append(module.register_forward_hook(hook))

    keep("hidden.embedding", model.model.embed_tokens)
    for index, layer in enumerate(model.model.layers):
        for part in ("q_proj", "k_proj", "v_proj"):
            keep(f"hidden.layer.{index}.{part}", getattr(layer.self_attn, part))
        keep(f"hidden.layer.{index}.attention", layer.self_attn)
        keep(f"hidden.layer.{index}.mlp", layer.mlp)
        keep(f"hidden.layer.{index}", layer)
    keep("hidden.final_norm", model.model.norm)
    logits = logits_of(model, prompt)
    for hook in hooks:
        hook.remove()
    return {"hidden.tokens": np.array(prompt, np.int32), **captured,
            "hidden.logits": logits.numpy()}


def weights_sha256(folder):
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def make(name, folder, out):
    rng = np.random.default_rng([SEED, *name.encode()])
    model, exact_model = load(folder), exact(folder)
    kind, vocab = kind_of(name), model.config.vocab_size
    tokenizer = None if kind == "random" else transformers.AutoTokenizer.from_pretrained(folder)
    prompts = [text_of_length(kind, tokenizer, vocab, n, rng) for n in LOGIT_LENGTHS]
    flat, offsets = pack(prompts)
    tensors = {"prompts.tokens": flat, "prompts.offsets": offsets}
    tensors |= logit_vectors(model, prompts, rng)
    if vocab <= FULL_VOCAB_MAX:
        tensors |= hidden_vectors(model, prompts[-1][:HIDDEN_TOKENS])
    candidates = greedy_candidates(kind, tokenizer, vocab, rng)
    found, facts = greedy_vectors(model, exact_model, candidates, GREEDY_PROMPTS)
    tensors |= found
    stored_config = json.loads((folder / "config.json").read_text())
    metadata = {
        "model": name,
        "weights_sha256": weights_sha256(folder),
        "weights_dtype": stored_config.get("torch_dtype") or stored_config["dtype"],
        "seed": str(SEED),
        "command": f"python3 tools/make_reference_vectors.py {name}=FOLDER",
        "versions": json.dumps({"python": platform.python_version(), "torch": torch.__version__,
                                "transformers": transformers.__version__,
                                "numpy": np.__version__}),
        **{key: f"{value:.6g}" for key, value in facts.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    st.write(out / f"{name}.safetensors", tensors, metadata)
    size = (out / f"{name}.safetensors").stat().st_size
    print(f"{name}: {size} bytes, logits rms {tensors['logits.rms'].mean():.3g} "
          f"max {tensors['logits.max_abs'].max():.3g}, {json.dumps(facts)}", flush=True)


def parse_model(text):
    name, _, folder = text.partition("=")
    if not folder:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=FOLDER")
    return name, pathlib.Path(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=parse_model, metavar="NAME=FOLDER")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/reference"))
    options = parser.parse_args()
    for name, folder in options.models:
        make(name, folder, options.out)


if __name__ == "__main__":
    main()
