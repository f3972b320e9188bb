#!/usr/bin/env python3
"""Checks tools/gguf_to_hf.py against transformers' own reading of the same GGUF file.

    python3 tools/check_gguf_to_hf.py FILE.gguf FOLDER      (FOLDER made by gguf_to_hf.py)

Needs: pip install torch transformers gguf tokenizers. Every weight must be equal after rounding to
BF16, and the tokenizers and the chat template must agree on a few texts.
"""

import pathlib
import sys

import torch
import transformers

TEXTS = ("Hello 1234 world!", "<|im_start|>user\nÜber 漢字 🎉<|im_end|>", "  a\n\n b\t\t c  ",
         "don't  STOP'S 3.14159", "naïve café — ¿qué?", "")


def main():
    file, folder = pathlib.Path(sys.argv[1]), sys.argv[2]
    auto = transformers.AutoModelForCausalLM
    theirs = auto.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ours = auto.from_pretrained(folder, dtype=torch.float32)
    weights, converted = theirs.state_dict(), ours.state_dict()
    assert weights.keys() == converted.keys()
    for name, weight in weights.items():
        assert torch.equal(weight.to(torch.bfloat16).float(), converted[name]), name
    assert theirs.config.rope_parameters == ours.config.rope_parameters
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    other = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == other(text)["input_ids"], text
    messages = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(messages) == other.apply_chat_template(messages)
    print(f"{len(weights)} tensors and {len(TEXTS)} texts agree")


if __name__ == "__main__":
    main()
