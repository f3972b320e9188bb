#!/usr/bin/env python3
"""Writes the seeds of the tokenizer fuzzers to tests/fuzz/corpus from the stored vectors. No packages needed.

Rewrites only its own files, named by what they hold.
"""

import gzip
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
DATA = ROOT / "tests" / "data" / "tokenizer"


def write(fuzzer, name, data):
    folder = CORPUS / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def lines(name):
    return [json.loads(line) for line in gzip.decompress((DATA / name).read_bytes()).decode().split("\n") if line]


def small(model):
    """The model with a vocabulary that a fuzzer can turn over: two characters, one merge, two byte tokens."""
    vocab = {"<unk>": 0, "a": 1, "Ġ": 2, "▁": 3, "aa": 4, "<0x41>": 5, "<0xC3>": 6, "b": 7, "ab": 8}
    return {**{k: v for k, v in model.items() if k not in ("vocab", "merges", "unk_token")},
            "vocab": vocab, "merges": [["a", "a"], "a b"], "unk_token": "<unk>"}


def json_seeds():
    entries = lines("components.jsonl.gz")
    models = entries[0]["models"]
    for number, entry in enumerate(entries[1:]):
        if number % 3:
            continue
        document = {k: v for k, v in entry["rest"].items() if v not in (None, [])}
        document["model"] = small({**models[entry["model"]], **entry["overrides"]})
        post = document.get("post_processor")
        if post and "special_tokens" in json.dumps(post):
            continue  # its ids are not in the small vocabulary
        text = entry["cases"][number % len(entry["cases"])][0] or "a b"
        data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        write("tokenizer_json_fuzz", f"component-{number:03}", data + b"\xff" + text.encode())


def encode_seeds():
    texts = [line["text"] for line in lines("texts.jsonl.gz") if "text" in line]
    for number, text in enumerate(texts[::12]):
        write("tokenizer_encode_fuzz", f"text-{number:02}", bytes([number % 8]) + text.encode())


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(key, kind, data):
    return string("tokenizer.ggml." + key) + struct.pack("<I", kind) + data


def array(key, kind, items):
    return value(key, 9, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def gguf_seeds():
    def gguf(values):
        return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + b"".join(values)

    ids = [value("bos_token_id", 4, struct.pack("<I", 1)), value("eos_token_id", 4, struct.pack("<I", 2)),
           value("unknown_token_id", 4, struct.pack("<I", 0)), value("add_eos_token", 7, b"\1")]
    spm = ["<unk>", "<s>", "</s>", "<0x41>", "<0xC3>", "▁", "l", "ll", "▁l", "é", "<user>"]
    kinds = [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 4]
    write("tokenizer_gguf_fuzz", "llama", gguf(
        [value("model", 8, string("llama")), array("tokens", 8, [string(t) for t in spm]),
         array("token_type", 5, [struct.pack("<i", k) for k in kinds]),
         array("scores", 6, [struct.pack("<f", -float(i)) for i in range(len(spm))])] + ids))
    bpe = ["<s>", "h", "e", "l", "Ġ", "ll", "Ġh", "Ã", "©", "Ã©", "1"]
    for pre in ("gpt-2", "llama-bpe", "smollm", "qwen2", "tekken", "default", "deepseek-v3"):
        write("tokenizer_gguf_fuzz", pre, gguf(
            [value("model", 8, string("gpt2")), value("pre", 8, string(pre)),
             array("tokens", 8, [string(t) for t in bpe]),
             array("token_type", 5, [struct.pack("<i", 3 if t == "<s>" else 1) for t in bpe]),
             array("merges", 8, [string("l l"), string("Ġ h"), string("Ã ©")])] + ids))


json_seeds()
encode_seeds()
gguf_seeds()
