#!/usr/bin/env python3
"""Makes the tokenizer test vectors under tests/data/tokenizer/ with the `tokenizers` package.

    python3 -m venv .venv
    .venv/bin/pip install tokenizers==0.22.1 gguf==0.19.0 sentencepiece==0.2.3 protobuf
    tools/fetch_test_tokenizers.sh
    .venv/bin/python tools/make_tokenizer_vectors.py SmolLM2.gguf stories260K/tokenizer.json

Files written (gzip, JSON lines; the texts are in tools/tokenizer_texts.py):
  texts.jsonl.gz       {"text": s} or {"recipe": [[s, count], ...]}
  NAME.jsonl.gz        a header, then a line for each text, then {"decode": ids, ...} lines
  components.jsonl.gz  small made-up tokenizers, each with its cases (tools/tokenizer_components.py)
  llama-spm.jsonl.gz   a header, then a line for each text: what SentencePiece makes of llama.cpp's
                       vocabulary llama-spm (special tokens in the text stay text)
  smollm2-vocab.gguf.gz  the tokenizer of the SmolLM2 GGUF file, without its weights
A text's line has "ids" (no special tokens added, special tokens in the text parsed) or, for recipes,
"count" and "hash" (64-bit FNV-1a over the ids as little-endian 32-bit numbers); "plain": the ids
when special tokens in the text stay text, where they differ; "text" and "skip": the decoded ids,
with and without special tokens, where they differ from the text and from each other ("text_hash" and
"skip_hash" over UTF-8 for recipes).
"""

import gzip
import hashlib
import json
import pathlib
import random
import sys
import tempfile

import gguf
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import tokenizer_components
from tokenizer_texts import SEED, expand, texts

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "data" / "tokenizer"
FETCHED = ROOT / ".cache" / "tokenizers"
RANDOM_DECODES = 200


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def hash_ids(ids):
    return fnv1a(b"".join(i.to_bytes(4, "little") for i in ids))


def write(name, lines):
    OUT.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    (OUT / name).write_bytes(gzip.compress(data.encode(), 9, mtime=0))


def line_for(tokenizer, kind, text):
    tokenizer.encode_special_tokens = False
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.decode(ids, skip_special_tokens=False)
    skip = tokenizer.decode(ids, skip_special_tokens=True)
    short = kind == "text"
    line = {"ids": ids} if short else {"count": len(ids), "hash": hash_ids(ids)}
    if plain != ids:
        line["plain" if short else "plain_hash"] = plain if short else hash_ids(plain)
    if whole != text:
        line["text" if short else "text_hash"] = whole if short else fnv1a(whole.encode())
    if skip != whole:
        line["skip" if short else "skip_hash"] = skip if short else fnv1a(skip.encode())
    return line


def random_decodes(tokenizer, seed):
    """Random ids: mostly any token, and runs of the shortest ones, which cut characters apart."""
    rng = random.Random(seed)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    narrow = [i for i in range(size) if (t := tokenizer.id_to_token(i)) and (len(t) <= 2 or t.startswith("<0x"))]
    for _ in range(RANDOM_DECODES):
        ids = []
        for _ in range(rng.randint(1, 4)):
            pool = rng.choice([range(size), narrow])
            ids += [rng.choice(pool) for _ in range(rng.randint(1, 10))]
        yield {"decode": ids, "text": tokenizer.decode(ids, skip_special_tokens=False),
               "skip": tokenizer.decode(ids, skip_special_tokens=True)}


def vectors(name, tokenizer, source):
    added = tokenizer.encode("x", add_special_tokens=True).ids
    bare = tokenizer.encode("x", add_special_tokens=False).ids
    at = next(i for i in range(len(added)) if added[i : i + len(bare)] == bare)
    header = {"tokenizer": name, "tokenizers": tokenizers.__version__, "seed": SEED, "source": source,
              "before": added[:at], "behind": added[at + len(bare) :]}
    lines = [header]
    lines += [line_for(tokenizer, kind, expand(kind, value)) for kind, value in texts()]
    lines += random_decodes(tokenizer, SEED + 1)
    write(f"{name}.jsonl.gz", lines)


def from_file(name, path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    vectors(name, Tokenizer.from_file(str(path)), {"sha256": digest})


def gguf_values(path):
    fields = gguf.GGUFReader(path).fields
    return {k.removeprefix("tokenizer.ggml."): f.contents() for k, f in fields.items() if k.startswith("tokenizer.ggml.")}


def smollm2(path):
    values = gguf_values(path)
    tokens = values["tokens"]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)},
                                     [tuple(m.split(" ")) for m in values["merges"]]))
    # HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer.json
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, values["token_type"]) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    vectors("smollm2", tokenizer, {"gguf": pathlib.Path(path).name})
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        writer = gguf.GGUFWriter(file.name, "llama")
        for key in ("model", "pre"):
            writer.add_string(f"tokenizer.ggml.{key}", values[key])
        for key in ("tokens", "token_type", "merges"):
            writer.add_array(f"tokenizer.ggml.{key}", values[key])
        for key in ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"):
            writer.add_uint32(f"tokenizer.ggml.{key}", values[key])
        for key in ("add_space_prefix", "add_bos_token"):
            writer.add_bool(f"tokenizer.ggml.{key}", values[key])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        (OUT / "smollm2-vocab.gguf.gz").write_bytes(
            gzip.compress(pathlib.Path(file.name).read_bytes(), 9, mtime=0))


def llama_spm():
    """SentencePiece itself on the pieces and scores of a GGUF file."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        packed = OUT / "llama.cpp" / "ggml-vocab-llama-spm.gguf.gz"
        file.write(gzip.decompress(packed.read_bytes()))
        file.flush()
        values = gguf_values(file.name)
    model = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in zip(values["tokens"], values["scores"], values["token_type"]):
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    lines = [{"tokenizer": "llama-spm", "sentencepiece": sentencepiece.__version__, "seed": SEED}]
    for kind, value in texts():
        ids = processor.encode(expand(kind, value))
        lines.append({"ids": ids} if kind == "text" else {"count": len(ids), "hash": hash_ids(ids)})
    write("llama-spm.jsonl.gz", lines)


def main():
    smollm2_gguf, stories_json = sys.argv[1:]
    write("texts.jsonl.gz", [{kind: value} for kind, value in texts()])
    for name in ("llama3_1", "qwen3", "llama2"):
        from_file(name, FETCHED / name / "tokenizer.json")
    from_file("stories260K", pathlib.Path(stories_json))
    smollm2(smollm2_gguf)
    llama_spm()
    write("components.jsonl.gz", tokenizer_components.cases())


main()
