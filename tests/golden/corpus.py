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


HARD = [
    # Emoji: ZWJ families, skin tones, flags, keycaps, text and emoji style.
    "\U0001f469\U0001f3fe\u200d\u2764\ufe0f\u200d\U0001f48b\u200d"
    "\U0001f468\U0001f3fb", "\U0001f44b\U0001f3ff hi \U0001f44b\U0001f3fb",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f3f4\u200d\u2620\ufe0f",
    "1\ufe0f\u20e3#\ufe0f\u20e3", "\u263a\ufe0e\u263a\ufe0f",
    "\U0001f9d1\u200d\U0001f680\U0001f9d1\U0001f3fd\u200d\U0001f33e",
    # Scripts without spaces, with conjuncts, right to left.
    "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\uff01\u30c6\u30b9\u30c8\u30fc",
    "\u6211\u4eec\u5728\u5b66\u4e60 tokenization \u6a21\u578b\u3002",
    "\uff28\uff45\uff4c\uff4c\uff4f\u3000\uff11\uff12\uff13\uff0c\uff76\uff9e\uff77\uff9e",
    "\u0627\u0644\u0633\u0651\u0644\u0627\u0645\u064f \u0639\u064e\u0644\u064e\u064a\u0652\u0643\u064f\u0645\u06d4 \u0660\u0661\u0662",
    "\ufdfa \ufefb\ufef7 \ufb50\ufdf2", "\u05d1\u05b0\u05bc\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea",
    "\u0e01\u0e33\u0e25\u0e31\u0e07\u0e40\u0e23\u0e35\u0e22\u0e19\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0e50\u0e51\u0e52",
    "\u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f \u0939\u093f\u0928\u094d\u0926\u0940 \u0967\u0968\u0969\u0964",
    "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0d2e\u0d32\u0d2f\u0d3e\u0d33\u0d02 \u1019\u103c\u1014\u103a\u1019\u102c", "\u1780\u17d2\u1798\u17c2\u179a \u0f56\u0f7c\u0f51\u0f0b",
    "\uc548\ub155\ud558\uc138\uc694 \u1112\u1161\u11ab\u1100\u1173\u11af",
    # Marks: many, in every order, of new Unicode versions, on nothing.
    "a\u0301\u0323\u0302\u0327 a\u0327\u0302\u0323\u0301 a\u0323\u0302\u0301",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dA\u036b\u0357\u0334\u0362\u0335\u031c\u0330\u0354",
    "\u1e9b\u0323 \u212b\u2126 \u01d6\u0344 \u0f73\u0f75",
    "\u0345\u0301\u03b1 \u03b1\u0345\u0301 \u1fb4", "e\u0898\u0301 o\u1abf\u0308 \u07fd\u0323a",
    "\ufb01\ufb03 \u00bd\u2075\u2460 \u33a1\u32ff \u1d2c\u02b0 \u2026\u2025",
    "\u0130I\u0131i \u1e9e\u00df \u03a3\u03c3\u03c2 \u01c5 \u2126\u212a",
    # Controls, byte order marks, specials, surrogates' edge, planes.
    "\ufeffBOM first", "mid\ufeffdle", "\x00\x00a\x00", "a\x07b\x08c\x1b[31mred\x1b[0m",
    "".join(map(chr, range(0x20))), "".join(map(chr, range(0x7f, 0xa1))),
    "\u00ad soft\u00adhyphen", "\u2066iso\u2069 \u061c\u200e\u200f",
    "\ue000\uf8ff \U000f0000\U0010fffd", "\ufdd0\ufffe\U0001ffff",
    "\u0378\u05ff\ua7ff\U000e1000\U0003fffd", "\ufffc\ufffd\ufff9",
    "\U0001ccf0\U00016130 \U00011de0", "\U00031350\U0002ebf0\u9fff",
    # Line ends and white space of all kinds.
    "a\r\nb\rc\nd\x0be\x0cf\x85g\u2028h\u2029i", "\r\r\n\n\r",
    "   a   b   ", "\t \t x \t", " \n a\n \n", "x\u2003\u2003y", "\u200b \u200b",
    " \u2581\u2581 a\u2581b", "\u2581", "\u2581\u2581", "  ", "   ", " a", "  a",
    # Look-alikes of special and byte tokens.
    "<s>", "</s>", "<s>a</s>", " <s> a </s> b", "<unk>", "<pad>", "<bos><eos>",
    "<0x0A>", "<0xE4><0xBD>", "<0x0g>", "a<0x41>b", "[CLS] a [SEP]", "[MASK]",
    "a [MASK]b", "[INST] hi [/INST]", "[INST]", "[ INST ]", "<extra_id_0> x",
    "<mask>", "a <mask> b", "<|user|>\nHi<|end|>\n<|assistant|>",
    "<|end|>   \n  x", "</s>  y", "<start_of_turn>user\nHi<end_of_turn>\n",
    "<think>\n\n</think>", "<tool_call>{\"a\": 1}</tool_call>",
    "<|begin_of_text|><|eot_id|>", "<|startoftext|>", "<META>a<EOT>", "##ing",
    "a##b ## ##", "</w>", "cat</w>dog", "[UNK]", "<|im_end|", "<| im_end |>",
    "<\u200b|im_end|>", "\uff1c|im_end|\uff1e",
    # What WordPiece's decoder cleans up.
    "do not , don ' t . is n't it ? he 's , they 've ! I 'm . we 're",
    # Code.
    "#include <vector>\nint main() {\n\tstd::vector<int> v{1, 2};\n\treturn v[0];\n}\n",
    "class A:\n    def __init__(self, *args, **kw) -> None:\n        super().__init__()\n",
    "const f = async (x) => { await g(`${x}\\n`); }; // TODO\n", "a/*b*/c--d++e<<=f>>>=g",
    "{\"k\": [1, 2.5e-10, null, true], \"u\": \"\\u00e9\"}", "\\begin{align} x^{2} &= \\frac{1}{2} \\\\ \\end{align}",
    "0b1010 0xDEADbeef 1_000_000 3.14e+10 .5 5. 1e9", "$HOME/bin:$PATH && echo \"$1\" | sed 's/a/b/g' > /dev/null 2>&1",
    # Words over a limit, repeats that overlap, ties.
    "x" * 99, "x" * 100, "x" * 101, "\u00e9" * 100, "aab" * 40, "abcabcab" * 20,
    # Long runs.
    " " * 10000, "\n" * 10000, "7" * 10000, "a" * 10000, "e\u0301" * 3000,
    "\u0301" * 5000, "\u0327\u0301" * 2500, "\u4e2d\u6587" * 3000,
    "\U0001f600" * 2500, "the quick brown fox " * 400, "\x00" * 2000,
    "\u2581" * 2000, "<unk>" * 500, "<0x0A>" * 500, "\u0378" * 1000, ". , ! ? " * 500,
]


def hard_corpus(count=700):
    """All of the corpus, the hard part, and random strings of many scripts."""
    rng = random.Random(7)
    blocks = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x5ff),
              (0x600, 0x8ff), (0x900, 0xdff), (0xe00, 0xfff), (0x1000, 0x1fff),
              (0x2000, 0x2bff), (0x3000, 0x30ff), (0x4e00, 0x4fff),
              (0xa000, 0xabff), (0xac00, 0xacff), (0xf900, 0xffff),
              (0x10000, 0x11fff), (0x1d000, 0x1ffff), (0x20000, 0x2ffff)]
    texts = corpus() + HARD
    while len(texts) < count:
        low, high = rng.choice(blocks)
        texts.append("".join(
            chr(rng.randint(low, high)) if rng.random() < 0.7 else
            rng.choice(" \n-.aeZ0\u0301\u00e9") for _ in range(
                rng.randint(1, 60))))
    return texts


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
