"""Strings that tokenizers get wrong. Deterministic."""

import random

PARTS = [
    "", " ", "  ", "\n", "\n\n", "\t", "\r\n", " \n ", "a", " a", "a ", "Hello",
    "Hello, world!", " leading", "trailing ", "two  spaces", "tab\there",
    "I'm you're he'll we've they'd it's DON'T I'M", "don\u2019t \u2019tis",
    "0", "1", "12", "123", "1234567890", "3.14159", "1,000,000.50", "0x1F",
    "2026-11-23T19:25:34Z", "v1.2.3-rc4", "10km/h 20%", "\u0661\u0662\u0663",
    "\u00bd \u00b2 \u2167", "for (int i = 0; i < n; ++i) { sum += a[i]; }",
    "def f(x):\n    return x ** 2\n\n\nprint(f(3))", "x=y==z!=w&&v||!u",
    "<html><body class=\"a\">&amp;</body></html>", "SELECT * FROM t WHERE a='b';",
    "https://example.org/a/b?c=d&e=f#g", "user@example.org", "C:\\dir\\file.txt",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "caf\u00e9", "cafe\u0301", "na\u00efve", "Stra\u00dfe", "\u0130stanbul",
    "\u4f60\u597d\uff0c\u4e16\u754c", "\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8",
    "\ud55c\uad6d\uc5b4", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645",
    "\u05e9\u05dc\u05d5\u05dd", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u041f\u0440\u0438\u0432\u0435\u0442",
    "\u0393\u03b5\u03b9\u03ac", "\U0001f600", "\U0001f600\U0001f601",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\u2764\ufe0f", "a\u0300\u0301\u0302",
    "\u200b\u200c\u200d\ufeff", "\u00a0non\u00a0breaking", "\u2028line\u2029sep",
    "\u3000wide", "\x00", "\x01\x02\x1b[0m\x7f", "a\x00b", "\ud7ff\ue000\uffff",
    "\U0010ffff", "\ufffd", "\u202eright to left", "!!!???...", "---===---",
    "(((())))", "\u201cquotes\u201d \u2018single\u2019 \u2014 dash \u2026",
    "$\u20ac\u00a3\u00a5", "\u221a\u2211\u222b\u2260", "a" * 200, " " * 100,
    "ab" * 100, "\n" * 50, "!" * 70, "9" * 45, "\u4e2d" * 60, "\U0001f600" * 20,
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|><|im_end|>", "a<|im_end|>b", "<|im_start", "|im_end|>",
    "<|endoftext|>", "text <|endoftext|> more", " <|im_end|> ", "<repo_name>x",
    "<file_sep>", "<|im_end|><|im_end|>", "<special>", "[SPECIAL] x [SPECIAL]",
    # Bytes that SmolLM2's vocabulary lacks vanish, and their neighbours meet.
    "\x16", "a\x16b", "t\x16he wor\x17ld", "\U00040000", "x\U00050001y",
    "\x05\x10\x1e",
    # Digits of all kinds (Nd, Nl, No) and none (CJK numerals), after spaces.
    "a  1", "a \n 22", "\t\t3", "\u0967\u0968 \u0e51\u0e52", "\u2460\u2461",
    "\U0001d7d9\U0001d7da", "\u4e00\u4e8c\u4e09", "x\u00b2+y\u00b3", "1a2b3c",
    # White space beyond ASCII, and what only looks like it.
    "a\u0085b", "a\u1680b\u180ec", "\u2000\u2003\u200a x", "a\u202fb\u205fc",
    "a\x0b\x0cb", "\x1c\x1d\x1e\x1f", " \u00a0 \u3000 x", "a \u2029 b",
    # Case folding: U+017F folds to s, U+212A to k.
    "it'\u017f", "'S 'RE 'Ve 'lL", "\u212a", "don't'll've",
    # Marks without a base, joiners, variation selectors, tags, surrogates' edge.
    "\u0301", " \u0301a", "\u0e49\u0e48", "e\u0323\u0302 \u1ec7", "\ufe0f\ufe0f",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f469\u200d\U0001f52c",
    "\u0915\u094d\u0937", "\u1112\u1161\u11ab", "\U00020000\U0002f800",
    # Long runs.
    "a" * 3000, " " * 1025 + "x", "the " * 300, "\r\n" * 64, "'" * 99, "_" * 333,
    "\U0001f600\u200d" * 50, "<|im_start|>" * 40, "<" * 50 + "|im_end|>",
    "the fox, foxes, fox's firefox fox", "  [SPECIAL]  [SPECIAL]\n[SPECIAL]",
]

WORDS = """the quick brown fox jumps over lazy dogs while 42 engineers write
C++ code; isn't it fun? \u00fcber \u00e9l\u00e8ve ni\u00f1o \u4e2d\u6587 \U0001f680 tokens,
don't WON'T 3.5 -7 $100 x_1 foo(bar) {a:b} [1,2] "q" 'r' \u2014 \u2026 \u0440\u0443\u0441 \u0639\u0631\u0628
re-use e.g. U.S.A. 1st 2nd 1990s 12:30 #tag @name""".split()
GLUE = [" ", " ", " ", " ", "  ", "\n", "\t", "", ", ", ". ", " - ", "\n\n    "]


def corpus(count=400):
    rng = random.Random(20261123)
    texts = list(PARTS)
    while len(texts) < count:
        words = [rng.choice(WORDS) + rng.choice(GLUE)
                 for _ in range(rng.randint(1, 24))]
        texts.append("".join(words))
    return texts


def training_text():
    """A few kilobytes to train small vocabularies on."""
    rng = random.Random(5)
    return [" ".join(rng.choice(WORDS) for _ in range(30)) for _ in range(200)]
