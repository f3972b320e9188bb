"""The texts on which tokenizers are compared: written ones, random ones, long ones by recipe."""

import random
import unicodedata

SEED = 20240611

SPECIALS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|im_start|>",
    "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<s>", "</s>",
    "<unk>", "<repo_name>", "<|fim_prefix|>", "<|vision_start|>", "<|reserved_special_token_9|>",
]

WRITTEN = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\t\n", "\r\n", "\r", "a", "A", " a", "a ", "  a  b   c",
    "Hello world", " Hello world", "Hello World!", "Hello, world!", " this is 🦙.cpp", "w048 7tuijk dsdfhu",
    "нещо на Български", "កាន់តែពិសេសអាចខលចេញ", "🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ (only emoji that has its own token)",
    "Hello\n  Hello\n   Hello\n    Hello", " (", "\n =", "' era", "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
    "3", "33", "333", "3333", "33333", "333333", "3333333", "33333333", "333333333", "3.14159, -1e-9, 0xFF, 1,234,567.89",
    "it's we're I'm you'll they've he'd don't 'TIS IT'S WE'RE I'M YOU'LL THEY'VE HE'D DON'T", "'s't're've'm'll'd 'S'T'RE'VE'M'LL'D",
    "o'ſ 'ſt K 'K K's ſ's \u212aelvin", "naïve café résumé Übergröße ǅ ǆ Ǆ ß ẞ",
    "e\u0301 e\u0301\u0302 a\u0323\u0307 a\u0307\u0323 \u0344 \u0390 \u1fc1 \u212b \u2126 \ufb01 \ufb03 \u1e9b\u0323",
    "\u0301leading mark, \u0301\u0302\u0303 marks", "q\u0307\u0323q\u0323\u0307 d\u0323\u0307 \u1e0b\u0323 s\u0323\u0307",
    "\u1100\u1161\u11a8 \uac00\u11a8 각 \u1100\u1161 \uac01 한국어 조선말 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "が か\u3099 ハ\u309a パ ﾊﾟ ｶﾞ Ａｂｃ１２３ ①②③ Ⅷ ⅷ ½ ² ₂ ℌ 𝔥 𝕳 ㎏ ㍿ ﷺ ﷽",
    "你好，世界！今天天气怎么样？", "我在北京的咖啡店里读书，突然下起了大雨。", "吾輩は猫である。名前はまだ無い。", "東京特許許可局局長今日急遽休暇許可拒否",
    "안녕하세요 세계! 오늘 날씨가 어때요?", "مرحبا بالعالم! كيف حالك اليوم؟", "السَّلَامُ عَلَيْكُمْ وَرَحْمَةُ ٱللَّٰهِ", "שָׁלוֹם עוֹלָם", "नमस्ते दुनिया! क्षत्रिय ज्ञान", "สวัสดีชาวโลก กินข้าวหรือยัง",
    "བཀྲ་ཤིས་བདེ་ལེགས།", "ওহে বিশ্ব ক্ষ", "வணக்கம் உலகம்", "ሰላም ልዑል", "Γειά σου Κόσμε ΣΊΣΥΦΟΣ σίσυφος", "Привет, мир! Съешь ещё этих мягких французских булок",
    "İstanbul ıI iİ", "ŁÓDŹ łódź", "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 🇩🇪🇫🇷🇯🇵 1️⃣ #️⃣ ❤️ ❤ ☎︎ ☎️", "😀😃😄😁😆😅🤣😂🙂🙃", "👍🏻👍🏼👍🏽👍🏾👍🏿", "🫠🫡🫢🫣🫤🫥 🪿🫨🩷",
    "a\u00a0b\u2003c\u3000d\u200be\u2060f\ufeffg\u180eh\u0085i\u2028j\u2029k\u1680l\u202fm\u205fn", "\u00a0\u00a0 \u3000\u3000 \u2003 x", "\ufeffBOM", "soft\u00adhyphen zero\u200cwidth\u200djoiner",
    "".join(chr(c) for c in range(32)), "\x00", "a\x00b", "\x7f\x80\x9f", "\x1b[31mred\x1b[0m \x07\x08", "\x0b\x0c \x0b\n\x0c", "\ufffd \ufffe \uffff \U0010ffff \U0001fffe \ue000 \U000f0000",
    "\U00020000\U0002a6df\U0002f800 \U0001d54f \U000e0041", "def f(x):\n\treturn x ** 2  # square\n\n\nprint(f(3))\n", "if (a&&b||!c){return a>>=2;}// ok\n",
    "<div class=\"x\">&nbsp;</div>\n<!-- c -->", "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}", "https://example.com/a/b?c=d&e=%20f#g user@example.org", "C:\\Program Files\\x\\y.txt /usr/local/bin",
    "SELECT * FROM t WHERE a='b' AND c<>1;", "$x = \\frac{a}{b} + \\sum_{i=0}^{n} i^2$", "snake_case camelCase PascalCase SCREAMING_CASE kebab-case", "_____ ----- ===== ~~~~~ ..... !!!!! ?????", "((([[[{{{<<<>>>}}}]]])))",
    "a  b   c    d     e      f       g", "\n \n  \n   \n", " \n \n\n \t \n", "x \n", "x  \n", "x\n ", "x\r\n\r\ny", "x\r\r\ny", "  leading", "trailing  ", "tab\tsep\tvalues\t", "a\n\n\n\nb", "a\u3000\u3000b",
    "▁", "▁▁", " ▁ ▁▁a", "▁Hello▁world", "Ġ", "ĠHello Ċ ĉ", "<0x0A>", "<0xE4><0xB8><0xAD>", "<0xFF>", "<unk", "</s", "<s >", "< s>", "<|im_start", "|im_start|>", "<<s>>", "<s><s>", "</s></s>", "<|im_start|><|im_end|>",
    "<s>Hello</s>", "Hello<s>", " <s> Hello </s> ", "<s> [INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>", "<unk>a<unk>", "<think>\nLet me see…\n</think>\n\nYes.",
    "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|>", "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "text<|endoftext|>text <|endoftext|> text", "<|reserved_special_token_9|>x", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "The quick brown fox jumps over the lazy dog. 0123456789", "Supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis", "antidisestablishmentarianismantidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababababababababababababab", "AAAAaaaaAAAAaaaa", "1234567890123456789012345678901234567890", "٠١٢٣٤٥٦٧٨٩ ०१२३४५६७८९ ௧௨௩ 一二三", "⅓⅔ ⅠⅡⅢ ↉ ꘠",
    "mixed中文english日本語한국어русский", "“Quotes” ‘single’ «guillemets» „low“ … – — ‐ ‑", "€100 £50 ¥1000 ₹20 ₿1 $5 ¢99", "±×÷≈≠≤≥∞∑∏√∫∂∇", "→←↑↓⇒⇔ ■□▲△●○◆◇★☆", "©®™§¶†‡•", "♔♕♖♗♘♙ ♩♪♫♬", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
]

POOLS = [
    list("abcdefghijklmnopqrstuvwxyz"), list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), list("0123456789"),
    [" "], [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000"],
    list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), list("äöüßéèêñçåøæœžšč"), list("абвгдежзийклмнопрстуфхцчшщъыьэюя"),
    list("αβγδεζηθικλμνξοπρστυφχψω"), [chr(c) for c in range(0x4E00, 0x4E80)], list("あいうえおかきくけこアイウエオカキクケコ"),
    [chr(c) for c in range(0xAC00, 0xAC40)], list("ابتثجحخدذرزسشصضطظعغفقكلمنهوي"), [chr(c) for c in range(0x064B, 0x0653)],
    [chr(c) for c in range(0x0300, 0x0330)], list("कखगघचछजझटठडढतथदधनपफबभमयरलवशषसह"), list("ािीुूेैोौ्"),
    list("😀🚀🦙👍❤🌍🎉🔥✨🤖"), ["\u200d", "\ufe0f", "\U0001f3fd"], [chr(c) for c in range(1, 32)],
    ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL"], ["the ", "and ", " of", "ing", "tion", " is", "Hello", " world"],
    SPECIALS, [chr(c) for c in range(0x1100, 0x1113)] + [chr(c) for c in range(0x1161, 0x1176)] + [chr(c) for c in range(0x11A8, 0x11C3)],
    list("①½²Ⅷ٣०௧"), [chr(c) for c in range(0x2000, 0x2010)], list("𝔥𝕳𐍈𠀀𪚥"),
]


def random_text(rng):
    parts = []
    for _ in range(rng.randint(1, 12)):
        pool = rng.choice(POOLS)
        parts += [rng.choice(pool) for _ in range(rng.randint(1, 12))]
    return "".join(parts)


def any_character(rng):
    while True:
        code = rng.choice([rng.randint(0, 0x2FF), rng.randint(0, 0xFFFF), rng.randint(0, 0x2FFFF)])
        # Unicode 14 as Python 3.11 knows it: later letters are none to every library (see README.md).
        if not 0xD800 <= code <= 0xDFFF and unicodedata.category(chr(code)) != "Cn":
            return chr(code)


# A long text is a list of [string, count]: the strings repeated and joined.
LONG = [
    [["a", 100_000]], [["A", 100_000]], [[" ", 100_000]], [[" ", 99_999], ["x", 1]], [["\n", 100_000]], [["\r\n", 50_000]],
    [[" \n", 50_000]], [["\t ", 50_000]], [["0", 100_000]], [["!", 100_000]], [["中", 33_333]],
    [["我在北京的咖啡店里读书突然下起了大雨名前はまだ無い", 1_400]], [["🙂", 25_000]], [["👨‍👩‍👧‍👦", 4_000]],
    [["e\u0301", 33_333]], [["a", 1], ["\u0301\u0323", 25_000]], [["ab ", 33_333]], [["aB", 50_000]], [["The quick brown fox. ", 5_000]],
    [["<|im_start|>", 8_000]], [["<s>", 33_333]], [["</s> <s>", 12_500]], [["<", 100_000]], [["ا", 50_000]], [["\x00", 100_000]],
    [["'s", 50_000]], [["a'", 50_000]], [["12 ", 33_333]], [["x=", 50_000]], [["\u00a0", 50_000]], [["가각", 16_666]], [["▁", 33_333]],
    [["don't ", 16_000], ["   ", 10_000], ["end", 1]],
]


def texts():
    """Yields ("text", string) and ("recipe", parts)."""
    rng = random.Random(SEED)
    for text in WRITTEN:
        yield "text", text
    for _ in range(300):
        yield "text", random_text(rng)
    for _ in range(60):
        yield "text", "".join(any_character(rng) for _ in range(rng.randint(1, 40)))
    for _ in range(40):
        yield "text", "".join(rng.choice(SPECIALS + [" ", "\n", "a", " b", "中"]) for _ in range(rng.randint(1, 8)))
    for parts in LONG:
        yield "recipe", parts


def expand(kind, value):
    return value if kind == "text" else "".join(part * count for part, count in value)
