#!/usr/bin/env python3
"""Writes a GGUF file's model as a Hugging Face folder with BF16 weights. Needs numpy only.

    python3 tools/gguf_to_hf.py FILE.gguf FOLDER

For tests that compare the two forms: the weights are the dequantised ones, rounded to BF16 (round
to nearest even), which is what pdserve serves from the GGUF file. Norms that BF16 cannot hold
exactly stay F32. Writes config.json, generation_config.json, model.safetensors, tokenizer.json and
tokenizer_config.json (with the chat template). Same input, same bytes.

Architectures: llama, qwen2, qwen3, without RoPE scaling. Types: F32, F16, BF16, Q8_0, Q4_0, Q4_1.
Tokenizer: byte-level BPE with the pre-tokenizer "smollm". Anything else is refused.
Source: github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
import pathlib
import struct
import sys

import numpy as np

import safetensors_numpy as st

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
           11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM",
                 "qwen3": "Qwen3ForCausalLM"}
NORMAL_TOKEN = 1
BLOCK = 32  # values in a quantised block
PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
       "output.weight": "lm_head.weight"}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self):
        length = self.scalar("<Q")
        self.at += length
        return bytes(self.data[self.at - length : self.at]).decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.scalar("<I"), self.scalar("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.scalar(SCALARS[kind])


def halves(raw):
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def nibbles(raw):
    """Low nibbles are values 0..15 of a block, high nibbles 16..31."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.float32)


# GGUF type: (bytes, values) of a block, and the function from [blocks, bytes] to f32.
TYPES = {
    0: (4, 1, lambda raw: raw.view("<f4")),
    1: (2, 1, halves),
    2: (18, BLOCK, lambda raw: (nibbles(raw[:, 2:]) - 8) * halves(raw[:, :2])),  # Q4_0
    3: (20, BLOCK, lambda raw: nibbles(raw[:, 4:]) * halves(raw[:, :2]) + halves(raw[:, 2:4])),
    8: (34, BLOCK, lambda raw: raw[:, 2:].view(np.int8).astype(np.float32) * halves(raw[:, :2])),
    30: (2, 1, lambda raw: st.from_bf16(raw.view("<u2"))),
}


def read_gguf(path):
    """Returns (metadata, {name: float32 array in row-major shape})."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    reader = Reader(data)
    if reader.scalar("<I") != 0x46554747 or reader.scalar("<I") not in (2, 3):
        sys.exit(f"{path}: not a GGUF file of version 2 or 3")
    tensor_count, key_count = reader.scalar("<Q"), reader.scalar("<Q")
    meta = {}
    for _ in range(key_count):
        key = reader.string()
        meta[key] = reader.value(reader.scalar("<I"))
    entries = []
    for _ in range(tensor_count):
        name = reader.string()
        shape = [reader.scalar("<Q") for _ in range(reader.scalar("<I"))][::-1]
        entries.append((name, shape, reader.scalar("<I"), reader.scalar("<Q")))
    alignment = meta.get("general.alignment", 32)
    start = -(-reader.at // alignment) * alignment
    tensors = {}
    for name, shape, kind, offset in entries:
        if kind not in TYPES:
            sys.exit(f"{path}: tensor {name} has GGUF type {kind}, which is not supported")
        size, values, widen = TYPES[kind]
        blocks = int(np.prod(shape)) // values
        raw = np.array(data[start + offset : start + offset + blocks * size])
        tensors[name] = widen(raw.reshape(blocks, size)).reshape(shape)
    return meta, tensors


def unpermute(rows, heads):
    """Undoes the interleaving of the two RoPE halves of each head in `llama` files."""
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def hf_name(name):
    if name in TOP:
        return TOP[name]
    block, layer, part, kind = name.split(".")
    assert block == "blk", name
    return f"model.layers.{layer}.{PARTS[part]}.{kind}"


def hf_tensors(meta, tensors):
    arch = meta["general.architecture"]
    heads = {"attn_q": meta[f"{arch}.attention.head_count"],
             "attn_k": meta[f"{arch}.attention.head_count_kv"]}
    result = {}
    for name, array in tensors.items():
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if arch == "llama" and part in heads:
            array = unpermute(array, heads[part])
        bits = st.to_bf16(array)
        exact = array.ndim > 1 or np.array_equal(st.from_bf16(bits), array)
        result[hf_name(name)] = bits if exact else array
    return result


def hf_config(path, meta, tensors):
    arch = meta["general.architecture"]
    if arch not in ARCHITECTURES:
        sys.exit(f"{path}: architecture {arch} is not supported")
    scaling = [key for key in meta if key.startswith(f"{arch}.rope.scaling.")]
    if scaling or "rope_freqs.weight" in tensors:
        sys.exit(f"{path}: RoPE scaling is not supported")
    heads = meta[f"{arch}.attention.head_count"]
    return {
        "architectures": [ARCHITECTURES[arch]],
        "model_type": arch,
        "hidden_act": "silu",
        "hidden_size": meta[f"{arch}.embedding_length"],
        "intermediate_size": meta[f"{arch}.feed_forward_length"],
        "num_hidden_layers": meta[f"{arch}.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta[f"{arch}.attention.head_count_kv"],
        "head_dim": tensors["blk.0.attn_q.weight"].shape[0] // heads,
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "max_position_embeddings": meta[f"{arch}.context_length"],
        # f32 in the file; the shortest decimal of the f32, as a person wrote it
        "rms_norm_eps": float(str(np.float32(meta[f"{arch}.attention.layer_norm_rms_epsilon"]))),
        "rope_theta": meta.get(f"{arch}.rope.freq_base", 10000.0),
        "rope_scaling": None,
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": False,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "torch_dtype": "bfloat16",
    }


def hf_tokenizer(path, meta):
    if (meta["tokenizer.ggml.model"], meta.get("tokenizer.ggml.pre")) != ("gpt2", "smollm"):
        sys.exit(f"{path}: only byte-level BPE with the pre-tokenizer smollm is supported")
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    added = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True}
             for i, token in enumerate(tokens) if types[i] != NORMAL_TOKEN]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": meta["tokenizer.ggml.merges"]},
    }
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[meta["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[meta["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[meta["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": meta[f"{meta['general.architecture']}.context_length"],
    }
    if "tokenizer.chat_template" in meta:
        settings["chat_template"] = meta["tokenizer.chat_template"]
    return tokenizer, settings


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    meta, tensors = read_gguf(path)
    config = hf_config(path, meta, tensors)
    tokenizer, settings = hf_tokenizer(path, meta)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id")}
    write_json(folder / "generation_config.json", ends)
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", settings)
    converted = hf_tensors(meta, tensors)
    st.write(folder / "model.safetensors", converted, {"format": "pt"})
    kept = sum(array.dtype == np.float32 for array in converted.values())
    print(f"{folder}: {len(converted)} tensors, {kept} of them kept as F32")


if __name__ == "__main__":
    main()
