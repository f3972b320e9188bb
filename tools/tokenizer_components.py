"""Small made-up tokenizers that use one option each, with what the `tokenizers` package makes of them."""

import json
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tokenizer_texts import SEED, any_character, random_text

TRAINING = [
    "the cat sat on the mat and the dog sat on the log", "Hello world, hello there! It's fine, isn't it? We're here.",
    "numbers 1 12 123 1234 2024", "naïve café résumé über", "你好世界 こんにちは世界 안녕하세요", "a b c d e f g  h   i    j",
    "привет мир", "in the beginning there was the thing, and the other thing", "ÀÉÎÕÜ àéîõü", "<tag> [INST] {x}",
] * 4

TEXTS = [
    "", " ", "a", " a", "a ", "Hello world", " Hello  world ", "Hello, world! It's 12345 o'clock.", "the-cat--sat---on", "--the--", "-", "---",
    "naïve CAFÉ résumé e\u0301\u0323 \u212b ﬁ Ⅷ", "你好，世界 こんにちは", "привет МИР İ", "tab\tnew\nline\r\n x", "a\u00a0b\u3000c\u2003d", "🙂👍🏽 \u200d",
    "<a>", "x<a>y", "x <a> y", "x  <a>  y", "<a><a>", "<a> <a>", "x<b>y x <b> y", "<B> <b>", "wordword word xword wordx word", "[sp]a[sp] [sp] b",
    "▁a▁▁b ▁", "<0x41><0x42>", "12ab34 ٣٤ ½", "a.b,c;d!e", "((x))  [y]", "\x00\x01", "AbC aBc", "the the the", "zzz qqq xjx",
]

GPT = r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train(byte_level):
    tokenizer = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>", byte_fallback=not byte_level))
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        tokenizer.train_from_iterator(TRAINING, trainer)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
        tokenizer.train_from_iterator(TRAINING, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if not byte_level:
        for byte in range(256):
            model["vocab"][f"<0x{byte:02X}>"] = len(model["vocab"])
    return model


def added(content, **flags):
    out = {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {**out, **flags}


def template(before, behind):
    pieces = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}]
    pieces += [{"SpecialToken": {"id": t, "type_id": 0}} for t in behind]
    special = {t: {"id": t, "ids": [i + 1], "tokens": [t]} for i, t in enumerate(before + behind)}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}


def regex(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def string(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"String": pattern}, "behavior": behavior, "invert": invert}


def sequence(key, *steps):
    return {"type": "Sequence", key: list(steps)}


def byte_level(add_prefix_space=False, use_regex=True):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def metaspace(**options):
    return {"type": "Metaspace", "replacement": "▁", **options}


PREPEND = {"type": "Prepend", "prepend": "▁"}
MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
UNMARK = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
FUSE = {"type": "Fuse"}
FALLBACK = {"type": "ByteFallback"}
LLAMA = sequence("decoders", UNMARK, FALLBACK, FUSE, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def configurations():
    """Yields (model, overrides of the model, sections)."""
    byte = dict(pre_tokenizer=byte_level(), decoder=byte_level())
    char = dict(normalizer=sequence("normalizers", PREPEND, MARK), decoder=LLAMA)
    for prefix in (False, True):
        for use_regex in (False, True):
            yield "byte", {}, dict(byte, pre_tokenizer=byte_level(prefix, use_regex))
    for normalizer in ([{"type": t} for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")]
                       + [{"type": "Strip", "strip_left": left, "strip_right": right} for left in (False, True) for right in (False, True)]
                       + [sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
                          sequence("normalizers", {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Prepend", "prepend": "the "}),
                          {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                          {"type": "Replace", "pattern": {"Regex": r"(?i:hello)|\d"}, "content": "the"},
                          {"type": "Replace", "pattern": {"String": "--"}, "content": "-"},
                          {"type": "Replace", "pattern": {"String": "a"}, "content": ""}]):
        yield "byte", {}, dict(byte, normalizer=normalizer)
    for behavior in BEHAVIORS:
        for invert in (False, True):
            for split in (string("-", behavior, invert), regex(r"\s+", behavior, invert), regex(r"\p{L}+|\d", behavior, invert)):
                yield "byte", {}, dict(byte, pre_tokenizer=sequence("pretokenizers", split, byte_level(False, False)))
        yield "byte", {}, dict(byte, pre_tokenizer=sequence("pretokenizers", {"type": "Punctuation", "behavior": behavior}, byte_level(False, False)))
    for pattern in (r"\s*", r"x*", r"(?<=\p{L})\p{N}", r"\w+|[^\w\s]+", r"[\w-]+", r"\W+", r"\S+", r"[^\S\n]+", r"[\p{Han}\p{Hiragana}]+", r"\P{L}+", r"\p{^L}+",
                    r"(?i)THE|cat", r"[a-e]{2,3}", r"[a-e]{,2}", r"\x41|é", r"a??b|.", r"^.+$", r"\p{L}++", r"(?:a|the)(?!\s)", r"[\r\n]+|\t", GPT,
                    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+"):
        yield "byte", {}, dict(byte, pre_tokenizer=sequence("pretokenizers", regex(pattern), byte_level(False, False)))
    for individual in (False, True):
        digits = {"type": "Digits", "individual_digits": individual}
        yield "byte", {}, dict(byte, pre_tokenizer=sequence("pretokenizers", digits, byte_level()))
        yield "byte", {}, dict(byte, pre_tokenizer=sequence("pretokenizers", sequence("pretokenizers", digits), {"type": "Punctuation"}, byte_level(True)))
    yield "byte", {"ignore_merges": True}, byte

    yield "char", {}, char
    for options in (dict(fuse_unk=True, byte_fallback=False), dict(fuse_unk=False, byte_fallback=False), dict(unk_token=None, byte_fallback=False), dict(ignore_merges=True)):
        yield "char", options, char
    for scheme in ("always", "first", "never"):
        for split in (False, True):
            step = metaspace(prepend_scheme=scheme, split=split)
            yield "char", {}, dict(pre_tokenizer=step, decoder=step)
            yield "char", {}, dict(pre_tokenizer=step, decoder=LLAMA, added_tokens=[added("<a>"), added("<b>", special=True)])
    yield "char", {}, dict(pre_tokenizer=metaspace(add_prefix_space=True), decoder=metaspace(add_prefix_space=True))
    yield "char", {}, dict(pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, metaspace(prepend_scheme="first")), decoder=LLAMA)
    for decoder in (None, FUSE, FALLBACK, UNMARK, sequence("decoders", FALLBACK, FUSE, UNMARK), sequence("decoders", FUSE, UNMARK, {"type": "Strip", "content": " ", "start": 3, "stop": 0}),
                    sequence("decoders", UNMARK, FALLBACK, {"type": "Strip", "content": "t", "start": 1, "stop": 0}),
                    sequence("decoders", FALLBACK, metaspace(prepend_scheme="first"), FUSE),
                    sequence("decoders", FUSE, {"type": "Replace", "pattern": {"String": "the"}, "content": "--"}, {"type": "Replace", "pattern": {"String": "--"}, "content": "=="}),
                    sequence("decoders", FUSE, {"type": "Replace", "pattern": {"String": "aa"}, "content": "b"}, {"type": "Strip", "content": "▁", "start": 1, "stop": 0}), byte_level()):
        yield "char", {}, dict(normalizer=sequence("normalizers", PREPEND, MARK), decoder=decoder)

    flags = [dict(zip(("single_word", "lstrip", "rstrip", "normalized", "special"), [bool(n >> k & 1) for k in range(5)])) for n in range(32)]
    for options in flags:
        tokens = [added("<a>", **options), added("word", **options), added("[sp]", **options), added("<B>", special=True)]
        yield "byte", {}, dict(byte, added_tokens=tokens, normalizer={"type": "Lowercase"} if options["normalized"] else None)
        if not options["single_word"]:
            yield "char", {}, dict(char, added_tokens=tokens)
    yield "byte", {}, dict(byte, added_tokens=[added("<a"), added("<a>"), added("<a><a>"), added("the", special=True), added("the cat"), added(" "), added("")])
    ends = [added("<s>", special=True), added("</s>", special=True)]
    yield "byte", {}, dict(byte, added_tokens=ends, post_processor=template(["<s>"], ["</s>"]))
    yield "byte", {}, dict(byte, added_tokens=ends, post_processor=sequence("processors", byte_level(), template(["<s>"], [])))
    yield "byte", {}, dict(byte, post_processor=byte_level())


def cases():
    trained = {"byte": train(True), "char": train(False)}
    yield {"models": trained}
    rng = random.Random(SEED + 2)
    for model, overrides, sections in configurations():
        document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                    "post_processor": None, "decoder": None, **sections, "model": {**trained[model], **overrides}}
        tokenizer = Tokenizer.from_str(json.dumps(document))
        for token in document["added_tokens"]:
            token["id"] = tokenizer.token_to_id(token["content"]) or 0
        texts = TEXTS + [random_text(rng) for _ in range(8)] + ["".join(any_character(rng) for _ in range(12)) for _ in range(4)]
        lines = []
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=True).ids
            lines.append([text, ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True)])
        size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        for _ in range(12):
            ids = [rng.randrange(size) for _ in range(rng.randint(0, 12))]
            lines.append([None, ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True)])
        rest = {k: v for k, v in document.items() if k != "model"}
        yield {"model": model, "overrides": overrides, "rest": rest, "cases": lines}
