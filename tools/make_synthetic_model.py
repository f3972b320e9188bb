#!/usr/bin/env python3
"""Writes a random BF16 model of about half a billion parameters, for benchmarks. Needs no package.

    python3 tools/make_synthetic_model.py --out models/synthetic-0.5b [--seed 1] [--layers 24] ...

A Hugging Face folder of the llama architecture with the dimensions of Qwen2.5-0.5B (24 layers, width
896, 14 heads and 2 KV heads of 64, 4864 inside, vocabulary 151936, tied embeddings: 494 million
parameters, 0.99 GB). The same arguments give the same bytes on every machine. The text it writes is
noise; speed and memory are those of a real model of that size.

The tokenizer is that of stories260K, filled up with words that text never becomes ("w512", ...), so
that every id the model can emit has a text.
"""

import argparse
import json
import math
import pathlib
import random
import statistics
import struct

CHUNK = 1 << 20
# The residual stream and the logits keep the size that real models have (standard deviation of
# about 1 and 3), so that softmax and sampling see ordinary numbers.
LOGIT_STD = 3.0


def model_config(options):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "hidden_size": options.hidden,
        "intermediate_size": options.intermediate,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads,
        "head_dim": options.head_dim,
        "vocab_size": options.vocab,
        "max_position_embeddings": options.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def tensors(model):
    """Yields (name, shape, standard deviation); 0 stands for a norm, which is all ones."""
    hidden, inner = model["hidden_size"], model["intermediate_size"]
    q_rows = model["num_attention_heads"] * model["head_dim"]
    kv_rows = model["num_key_value_heads"] * model["head_dim"]

    def matrix(rows, columns, gain=1.0):
        return (rows, columns), gain / math.sqrt(columns)

    yield ("model.embed_tokens.weight", *matrix(model["vocab_size"], hidden, LOGIT_STD))
    for layer in range(model["num_hidden_layers"]):
        block = {
            "input_layernorm.weight": ((hidden,), 0),
            "self_attn.q_proj.weight": matrix(q_rows, hidden),
            "self_attn.k_proj.weight": matrix(kv_rows, hidden),
            "self_attn.v_proj.weight": matrix(kv_rows, hidden),
            "self_attn.o_proj.weight": matrix(hidden, q_rows),
            "post_attention_layernorm.weight": ((hidden,), 0),
            "mlp.gate_proj.weight": matrix(inner, hidden),
            "mlp.up_proj.weight": matrix(inner, hidden),
            "mlp.down_proj.weight": matrix(hidden, inner),
        }
        for name, (shape, deviation) in block.items():
            yield f"model.layers.{layer}.{name}", shape, deviation
    yield "model.norm.weight", (hidden,), 0


def bf16(value):
    """The bits of a finite float as BF16, rounded to nearest even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def value_tables(deviation):
    """Low and high bytes of the BF16 values that the 256 random bytes stand for: the 256 middle
    quantiles of a normal distribution. Whole chunks then become weights by bytes.translate()."""
    normal = statistics.NormalDist(0.0, deviation)
    values = [bf16(normal.inv_cdf((i + 0.5) / 256)) for i in range(256)]
    return bytes(v & 255 for v in values), bytes(v >> 8 for v in values)


def write_random(file, rng, count, deviation):
    low, high = value_tables(deviation)
    while count > 0:
        chunk = rng.randbytes(min(count, CHUNK))
        out = bytearray(2 * len(chunk))
        out[0::2] = chunk.translate(low)
        out[1::2] = chunk.translate(high)
        file.write(out)
        count -= len(chunk)


def write_weights(path, model, seed):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors(model):
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = random.Random(seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation in tensors(model):
            if deviation == 0:
                file.write(struct.pack("<H", bf16(1.0)) * math.prod(shape))
            else:
                write_random(file, rng, math.prod(shape), deviation)
    return offset


def write_tokenizer(source, out, vocab):
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    if len(words) > vocab:
        raise SystemExit(f"--vocab {vocab}: the tokenizer alone has {len(words)} words")
    words.update({f"\u2581w{i}": i for i in range(len(words), vocab)})
    text = json.dumps(tokenizer, ensure_ascii=False, indent=1)
    (out / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    settings = (source / "tokenizer_config.json").read_bytes()
    (out / "tokenizer_config.json").write_bytes(settings)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--intermediate", type=int, default=4864)
    parser.add_argument("--heads", type=int, default=14)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--tokenizer", type=pathlib.Path,
                        default=root / "assets/models/stories260K",
                        help="folder whose tokenizer is copied and filled up")
    options = parser.parse_args()

    model = model_config(options)
    options.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(options.tokenizer, options.out, options.vocab)
    (options.out / "config.json").write_text(json.dumps(model, indent=2) + "\n")
    generation = {"bos_token_id": 1, "eos_token_id": 2}
    (options.out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    size = write_weights(options.out / "model.safetensors", model, options.seed)
    print(f"{options.out}: {size // 2:,} parameters, {size:,} bytes")


if __name__ == "__main__":
    main()
