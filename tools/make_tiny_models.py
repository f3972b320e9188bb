#!/usr/bin/env python3
"""Makes the tiny random models under tests/data/models, from fixed seeds. Needs numpy only.

    python3 tools/make_tiny_models.py --tokenizer DIR [--out tests/data/models] [--only NAME]

One model per architecture and per trap of its configuration, small enough to be committed and odd
enough (widths that are no powers of two, 3:1 and 5:1 query groups) to leave kernels with tails.
DIR holds the tokenizer.json and tokenizer_config.json of stories260K (vocabulary 512), copied into
each folder so that the models can be served.

Weights: normal, so scaled that activations stay near 1 and the logits' standard deviation is about
3. o_proj and down_proj get a gain above 1: the residual stream then forgets the input token, and a
greedy continuation is not one token repeated.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np

import safetensors_numpy as st

VOCAB = 512
LOGIT_STD = 3.0
RESIDUAL_GAIN = 1.6  # of o_proj and down_proj
QUERY_GAIN = 2.0  # attention sharper than uniform, so that positions matter

COMMON = {
    "hidden_act": "silu",
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
}


def config(architecture, model_type, hidden, layers, heads, kv_heads, intermediate, **extra):
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        **COMMON,
        **extra,
    }


# name -> (seed, stored type, shards, config.json)
MODELS = {
    # RoPE frequencies at head_dim 16 have wavelengths 6.3, 32, 167, ... tokens: with an original
    # context of 64 the first is kept, the second interpolated, the others divided by the factor.
    "tiny-llama3.1": (31, "BF16", 1, config(
        "LlamaForCausalLM", "llama", 64, 3, 4, 2, 160,
        attention_bias=False, mlp_bias=False, rms_norm_eps=1e-5, rope_theta=500000.0,
        rope_scaling={"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                      "original_max_position_embeddings": 64, "rope_type": "llama3"},
        tie_word_embeddings=False, torch_dtype="bfloat16")),
    # sliding_window is there as in the vendor's files, switched off by use_sliding_window.
    "tiny-qwen2.5": (25, "BF16", 1, config(
        "Qwen2ForCausalLM", "qwen2", 96, 2, 6, 2, 152,
        max_window_layers=1, rms_norm_eps=1e-6, rope_theta=1000000.0, sliding_window=16,
        use_sliding_window=False, tie_word_embeddings=True, torch_dtype="bfloat16")),
    # heads * head_dim = 128, twice the hidden size.
    "tiny-qwen3": (3, "BF16", 1, config(
        "Qwen3ForCausalLM", "qwen3", 64, 3, 4, 2, 136,
        attention_bias=False, head_dim=32, max_window_layers=3, rms_norm_eps=1e-6,
        rope_scaling=None, rope_theta=1000000.0, sliding_window=None, use_sliding_window=False,
        tie_word_embeddings=True, torch_dtype="bfloat16")),
    "tiny-mistral": (7, "BF16", 1, config(
        "MistralForCausalLM", "mistral", 80, 3, 5, 1, 96,
        rms_norm_eps=1e-5, rope_theta=10000.0, sliding_window=None,
        tie_word_embeddings=False, torch_dtype="bfloat16")),
    # F16 values that BF16 holds exactly (subnormals included), so that a loader which keeps 16-bit
    # weights as BF16 loses nothing.
    "tiny-mistral-window": (8, "F16", 1, config(
        "MistralForCausalLM", "mistral", 48, 3, 4, 2, 88,
        head_dim=16, rms_norm_eps=1e-5, rope_theta=10000.0, sliding_window=24,
        tie_word_embeddings=False, torch_dtype="float16")),
    # Two shards and an index; the keys that transformers 5 writes (dtype, rope_parameters).
    "tiny-llama-linear": (4, "F32", 2, config(
        "LlamaForCausalLM", "llama", 40, 2, 5, 5, 72,
        attention_bias=False, mlp_bias=False, head_dim=8, pretraining_tp=1, rms_norm_eps=1e-5,
        rope_parameters={"factor": 4.0, "rope_theta": 10000.0, "rope_type": "linear"},
        tie_word_embeddings=True, dtype="float32", transformers_version="5.23.0")),
}


def random_weights(seed, model):
    """{Hugging Face name: float32 array}."""
    rng = np.random.default_rng(seed)
    hidden, inner = model["hidden_size"], model["intermediate_size"]
    heads, kv_heads = model["num_attention_heads"], model["num_key_value_heads"]
    head_dim = model.get("head_dim") or hidden // heads

    def matrix(rows, columns, gain=1.0):
        return rng.standard_normal((rows, columns)) * (gain / np.sqrt(columns))

    def norm(size):
        return 1.0 + 0.2 * rng.standard_normal(size)

    tensors = {"model.embed_tokens.weight": matrix(VOCAB, hidden, LOGIT_STD)}
    for layer in range(model["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        block = {
            "input_layernorm.weight": norm(hidden),
            "self_attn.q_proj.weight": matrix(heads * head_dim, hidden, QUERY_GAIN),
            "self_attn.k_proj.weight": matrix(kv_heads * head_dim, hidden),
            "self_attn.v_proj.weight": matrix(kv_heads * head_dim, hidden),
            "self_attn.o_proj.weight": matrix(hidden, heads * head_dim, RESIDUAL_GAIN),
            "post_attention_layernorm.weight": norm(hidden),
            "mlp.gate_proj.weight": matrix(inner, hidden, 1.5),
            "mlp.up_proj.weight": matrix(inner, hidden, 1.5),
            "mlp.down_proj.weight": matrix(hidden, inner, RESIDUAL_GAIN),
        }
        if model["model_type"] == "qwen2":
            for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                block[f"self_attn.{name}_proj.bias"] = 0.5 * rng.standard_normal(rows * head_dim)
        if model["model_type"] == "qwen3":  # q and k have norm 1 after it, so the gain goes here
            block["self_attn.q_norm.weight"] = QUERY_GAIN * norm(head_dim)
            block["self_attn.k_norm.weight"] = norm(head_dim)
        tensors.update({prefix + name: array for name, array in block.items()})
    tensors["model.norm.weight"] = norm(hidden)
    if not model["tie_word_embeddings"]:
        tensors["lm_head.weight"] = matrix(VOCAB, hidden, LOGIT_STD)
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def stored(array, dtype):
    if dtype == "BF16":
        return st.to_bf16(array)
    if dtype == "F16":
        return st.from_bf16(st.to_bf16(array)).astype(np.float16)
    return array


def write_model(folder, seed, dtype, shards, model, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: stored(a, dtype) for n, a in random_weights(seed, model).items()}
    metadata = {"format": "pt"}
    if shards == 1:
        st.write(folder / "model.safetensors", tensors, metadata)
    else:
        weight_map = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            part = {n: t for i, (n, t) in enumerate(sorted(tensors.items())) if i % shards == shard}
            st.write(folder / file, part, metadata)
            weight_map.update(dict.fromkeys(part, file))
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                 "weight_map": dict(sorted(weight_map.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(model, indent=2) + "\n")
    generation = {"bos_token_id": model["bos_token_id"], "eos_token_id": model["eos_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / file, folder / file)
        (folder / file).chmod(0o644)
    size = sum(t.nbytes for t in tensors.values())
    print(f"{folder}: {dtype}, {len(tensors)} tensors, {size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/models"))
    parser.add_argument("--only", choices=sorted(MODELS))
    options = parser.parse_args()
    for name, (seed, dtype, shards, model) in MODELS.items():
        if options.only in (None, name):
            write_model(options.out / name, seed, dtype, shards, model, options.tokenizer)


if __name__ == "__main__":
    main()
