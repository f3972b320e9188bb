#!/usr/bin/env python3
"""How far correct programs, and wrong ones, are from the reference numbers.

    python3 tools/study_reference_errors.py NAME=FOLDER ... [--sequences N] [--draws N]

Reads tests/data/reference/NAME.safetensors and prints three tables, which its README explains. Each
error is that of one row of logits: largest |difference| over the vocabulary / largest |logit|. Rows:
every position of the prompts for the logits, and of the first N greedy prompts with their
continuations. "flips" counts greedy steps whose best token changes; "gap" is the largest reference
gap at such a step, as a share of the row's largest logit.

1. f32: transformers against f64, and f64 with errors drawn at each operation as f32 arithmetic in
   an unknown order could make them (tools/exact_model.py).
2. BF16: f64 with values rounded as an engine with BF16 products keeps them.
3. Mistakes: f64 with one feature of the model wrong.
"""

import argparse
import pathlib

import numpy as np
import torch

import safetensors_numpy as st
from exact_model import Rounding, exact
from make_reference_vectors import load, logits_of, parse_model

BF16 = (
    ("products", {"linear": True}),
    ("products, KV", {"linear": True, "kv": True}),
    ("products, KV, q, softmax", {"linear": True, "kv": True, "scores": True}),
    ("the same, weights", {"linear": True, "kv": True, "scores": True, "weights": True}),
)


def sequences(path, count):
    """[(ids, index of the first row that chooses a greedy token, or None)]"""
    tensors, _ = st.read(path)

    def split(tokens, offsets):
        return [part.tolist() for part in np.split(tokens, offsets[1:-1])]

    result = [(ids, None) for ids in split(tensors["prompts.tokens"], tensors["prompts.offsets"])]
    prompts = split(tensors["greedy.tokens"], tensors["greedy.offsets"])
    for prompt, generated in list(zip(prompts, tensors["greedy.generated"]))[:count]:
        result.append(([*prompt, *generated[:-1].tolist()], len(prompt) - 1))
    return result


class Errors:
    """Collects rows of two programs."""

    def __init__(self):
        self.rows, self.squares, self.steps, self.gaps = [], [], 0, []

    def add(self, truth, other, first_choice):
        scale = truth.abs().amax(1)
        difference = (other - truth).abs()
        self.rows += (difference.amax(1) / scale).tolist()
        self.squares += (difference.pow(2).mean(1) / scale**2).tolist()
        if first_choice is None:
            return
        best = truth.topk(2, dim=1)
        flipped = other.argmax(1) != best.indices[:, 0]
        gap = (best.values[:, 0] - best.values[:, 1]) / scale
        self.steps += len(truth) - first_choice
        self.gaps += gap[first_choice:][flipped[first_choice:]].tolist()

    def cells(self):
        return (f"{np.max(self.rows):.1e} | {np.median(self.rows):.1e} | "
                f"{np.sqrt(np.mean(self.squares)):.1e} | {len(self.gaps)} of {self.steps} | "
                f"{max(self.gaps, default=0):.1e}")


def compare(truths, model):
    errors = Errors()
    for ids, first_choice, truth in truths:
        errors.add(truth, logits_of(model, ids).double(), first_choice)
    return errors


def set_all(parameters, value):
    for parameter in parameters:
        parameter.data.fill_(value)


def unscaled_rope(model):
    rope = model.config.rope_parameters
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": rope["rope_theta"]}


def other_theta(model):
    rope = model.config.rope_parameters
    model.config.rope_parameters = {**rope, "rope_theta": rope["rope_theta"] * 1.01}


def window(size):
    def edit(model):
        for module in model.modules():
            if hasattr(module, "patches"):
                module.patches.window = size
    return edit


def tiled_heads(model):
    """Query head h reads KV head h % kv_heads, where h // group is right."""
    heads, kv_heads = model.config.num_attention_heads, model.config.num_key_value_heads
    order = sorted(range(heads), key=lambda head: (head % kv_heads, head))
    for layer in model.model.layers:
        q, o = layer.self_attn.q_proj, layer.self_attn.o_proj
        dim = q.weight.shape[0] // heads
        q.weight.data = q.weight.reshape(heads, dim, -1)[order].reshape(q.weight.shape)
        if q.bias is not None:
            q.bias.data = q.bias.reshape(heads, dim)[order].reshape(-1)
        o.weight.data = o.weight.reshape(-1, heads, dim)[:, order].reshape(o.weight.shape)


def interleaved_rope(model):
    """Rows of q and k in the order that RoPE over neighbouring pairs needs."""
    for layer in model.model.layers:
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            dim = layer.self_attn.head_dim
            rows = part.weight.reshape(-1, 2, dim // 2, part.weight.shape[1])
            part.weight.data = rows.swapaxes(1, 2).reshape(part.weight.shape)


def other_eps(model):
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon *= 10


def mistakes(model):
    """[(name, edit)] that apply to this model."""
    named = dict(model.named_parameters())
    config = model.config
    biases = [name for name in named if name.endswith("bias")]
    norms = [name for name in named if "q_norm" in name or "k_norm" in name]
    found = [("rope_theta 1% off", other_theta), ("norm eps 10 times larger", other_eps),
             ("RoPE over neighbouring pairs", interleaved_rope)]
    if config.rope_parameters["rope_type"] != "default":
        found.append(("RoPE scaling ignored", unscaled_rope))
    if 1 < config.num_key_value_heads < config.num_attention_heads:
        found.append(("KV heads tiled", tiled_heads))
    if biases:
        found.append(("bias ignored",
                      lambda m: set_all([p for n, p in m.named_parameters() if n in biases], 0)))
    if norms:
        found.append(("weights of q and k norm ignored",
                      lambda m: set_all([p for n, p in m.named_parameters() if n in norms], 1)))
    size = getattr(config, "sliding_window", None)
    if size:
        found += [("sliding window ignored", window(None)),
                  ("sliding window one wider", window(size + 1)),
                  ("sliding window one narrower", window(size - 1))]
    if config.model_type == "qwen2":
        found.append(("switched-off window of 16 obeyed", window(16)))
    return found


def study(name, folder, options):
    chosen = sequences(options.reference / f"{name}.safetensors", options.sequences)
    right = exact(folder)
    truths = [(ids, first, logits_of(right, ids)) for ids, first in chosen]
    lines = [f"| {name} | transformers f32 | {compare(truths, load(folder)).cells()} |"]
    noisy = Errors()
    for draw in range(options.draws):
        generator = torch.Generator().manual_seed(draw)
        model = exact(folder, Rounding(noise=generator))
        for ids, first, truth in truths:
            noisy.add(truth, logits_of(model, ids), first)
    lines.append(f"| {name} | drawn f32 errors | {noisy.cells()} |")
    exact_weights = all(torch.equal(p, p.to(torch.bfloat16).double()) for p in right.parameters())
    for label, points in BF16 if not exact_weights else BF16[:-1]:
        errors = compare(truths, exact(folder, Rounding(**points)))
        lines.append(f"| {name} | BF16 {label} | {errors.cells()} |")
    short = truths[: options.mistake_sequences]
    for label, edit in mistakes(right):
        errors = compare(short, exact(folder, edit=edit))
        lines.append(f"| {name} | {label} | {errors.cells()} |")
    print("\n".join(lines), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=parse_model, metavar="NAME=FOLDER")
    parser.add_argument("--reference", type=pathlib.Path, default="tests/data/reference")
    parser.add_argument("--sequences", type=int, default=200, help="greedy prompts to use")
    parser.add_argument("--draws", type=int, default=3, help="runs with drawn errors")
    parser.add_argument("--mistake-sequences", type=int, default=12)
    options = parser.parse_args()
    print("| model | program | max | median | rms | flips | gap |\n|---|---|---|---|---|---|---|")
    for name, folder in options.models:
        study(name, folder, options)


if __name__ == "__main__":
    main()
