#!/usr/bin/env python3
"""Writes component_golden.json: Hugging Face `tokenizers`, one component at a
time.

Each entry names a base (`gpt2` is tests/golden/tokenizers/gpt2; `pieces` and
`words` stand in the file) and holds the top-level members of tokenizer.json to
replace in it (`model` members are merged into the model), and texts with their
ids, or ids with their text. The ids of `pieces` spell the bytes of a text and
mark the last one of each piece, so that they show what normalizers and
pre-tokenizers do. Needs the package `tokenizers`; written by 0.23.
"""

import base64
import io
import json
import pathlib
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
BASE = HERE.parents[1] / "golden" / "tokenizers" / "gpt2" / "tokenizer.json"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
POOL = (list("aabbcdetrson THE  019\t\n\r.,'-_<|>/") +
        ["'s", "'LL", "'\u017f", " the", "er", "e\u0301", "\u00e9", "\u212b",
         "\u0344", "\u1e9b\u0323", "\uac00", "\u1100\u1161\u11a8", "\u0301",
         "\u0327", "\u00a0", "\u2003", "\u180e", "\u0085", "\u200b", "\u3000",
         "\u2160", "\u00b2", "\u0663", "\u4e2d", "\u3001", "\U0001f600",
         "\U0001f469\u200d\U0001f680", "\u24b6", "\u200d", "<A>", "<B>", "<AB>",
         "wd", "<|endoftext|>", "nrm", "\u00c5x"])
# One of many kinds each, of all ages of Unicode.
RARE = [0x0, 0x1, 0x7, 0x1b, 0x7f, 0x8f, 0x9f, 0xad, 0x130, 0x1c5, 0x2b0, 0x300,
        0x345, 0x34f, 0x378, 0x3a3, 0x483, 0x5b0, 0x5c1, 0x600, 0x61d, 0x64b,
        0x898, 0x93f, 0x94d, 0xe33, 0xe4a, 0x166d, 0x1734, 0x1ab0, 0x1abf,
        0x1c89, 0x200e, 0x2028, 0x202f, 0x2066, 0x20dd, 0x2126, 0x2460, 0x2581,
        0x2e43, 0x2e5b, 0x3000, 0x3099, 0x309a, 0x304b, 0x30ab, 0x32ff, 0x3400,
        0x4e00, 0xa7cb, 0xa7f2, 0xd7ff, 0xe000, 0xf900, 0xfa0e, 0xfb01, 0xfdfa,
        0xfe0f, 0xfeff, 0xff21, 0xff76, 0xff9e, 0xfffd, 0xffff, 0x10400,
        0x10d40, 0x10d50, 0x11930, 0x11935, 0x11938, 0x11f41, 0x13460, 0x1d15e,
        0x1d400, 0x1d7ce, 0x1e030, 0x1e2ec, 0x1f100, 0x1f1e9, 0x1f3fd, 0x1f468,
        0x1fbf0, 0x20000, 0x2b740, 0x2ebf0, 0x2f800, 0x31350, 0xe0101, 0xf0000,
        0x10ffff]


def byte_level(use_regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix,
            "trim_offsets": True, "use_regex": use_regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior,
            "invert": invert}


def sequence(*items):
    return {"pre_tokenizer": {"type": "Sequence",
                              "pretokenizers": list(items)}}


def added(id, content, special=False, **flags):
    token = {"id": id, "content": content, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False,
             "special": special}
    token.update(flags)
    return token


def template(single, ids):
    tokens = {name: {"id": name, "ids": [i], "tokens": [name]}
              for name, i in ids.items()}
    pieces = [{"Sequence": {"id": "A", "type_id": 0}} if name == "$A" else
              {"SpecialToken": {"id": name, "type_id": 0}} for name in single]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces +
            [{"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": tokens}


def configurations(size, vocab):
    plain = byte_level(False)
    for behavior in ("Isolated", "Removed", "MergedWithPrevious",
                     "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield sequence(split(r"\s|\p{N}", behavior, invert), plain)
            yield sequence(split(r"\p{L}+|[\r\n]", behavior, invert), plain)
            yield sequence(split("e", behavior, invert, "String"), plain)
    for pattern in (LLAMA3, QWEN2, O200K, r"\s*", r"a*?b|^.|.$", r"\S+\s?",
                    r"[\S]+", r"(?<=a)b|b(?=a)", r"\p{Han}+|\p{^L}",
                    r"\u0065|\x{301}|[\-\s]", r"(?i)THE|er", r"\d{,2}x?|\D"):
        yield sequence(split(pattern), plain)
    for individual in (False, True):
        yield sequence({"type": "Digits", "individual_digits": individual},
                       byte_level(True))
        yield sequence({"type": "Digits", "individual_digits": individual},
                       byte_level(True, prefix=True))
    yield sequence(split(QWEN2), plain) | {"normalizer": {"type": "NFC"}}
    yield {"normalizer": {"type": "Sequence",
                          "normalizers": [{"type": "NFC"}]}}
    yield {"model": {"ignore_merges": True}}
    tail = dict(vocab)
    for token in ("e", "\u0120", "\u00c3"):
        del tail[token]
    cut = {"vocab": tail, "merges": []}
    yield {"model": cut}
    yield {"model": cut | {"unk_token": "<|endoftext|>"}}
    yield {"model": cut | {"unk_token": "<|endoftext|>", "fuse_unk": True}}
    end = added(0, "<|endoftext|>", special=True)
    for flag in ("lstrip", "rstrip", "single_word", "normalized"):
        for value in (False, True):
            yield {"added_tokens": [
                end, added(size, "<A>", **{flag: value}),
                added(size + 1, "<AB>", special=True, **{flag: value}),
                added(size + 2, "wd", **{flag: value}),
                added(size + 3, " <B>", lstrip=value, rstrip=True)]}
    yield {"normalizer": {"type": "NFC"}, "added_tokens": [
        end, added(size, "nrm", normalized=True),
        added(size + 1, "e\u0301", normalized=True),
        added(size + 2, "\u00c5x", normalized=True),
        added(size + 3, "\u212b", normalized=False)]}
    yield {"added_tokens": [end, added(size, "<A>", special=True),
                            added(size + 1, "<B>", special=True)],
           "post_processor": {"type": "Sequence", "processors": [
               byte_level(True),
               template(["<A>", "<|endoftext|>", "$A", "<B>"],
                        {"<|endoftext|>": 0, "<A>": size, "<B>": size + 1})]}}


def file(model, **members):
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, "model": model} | members


def pieces_base():
    """Two tokens for each byte: within a piece and at its end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate(
        alphabet + [c + "</w>" for c in alphabet])}
    return file({"type": "BPE", "vocab": vocab, "merges": [],
                 "end_of_word_suffix": "</w>"},
                pre_tokenizer=byte_level(False))


WORDS = ["a", "##b", "\u2581c", "d\u2581e", "\u2581", "\u2581\u2581", "<0x41>",
         "<0xE4>", "<0xBD>", "<0xA0>", "<0xff>", "<0x0A>", "<0x4>", "<0xZZ>",
         "<0x+7>", "\u00e9", "\u4e2d", "\U0001f600", " f", "g ", " h ", " ", "  ",
         "i</w>", "j</w>k", "</w>", "##", ".", "?", "n't", "'m", "'", "do not",
         "'s", " ,", "\u0120l", "\u00c3", "\u00a9", "m\u010a", "##'ve", "<s>",
         "oo", "ooo", "\u2581 p", "don't .", "\ufffd", "qq"]


def words_base():
    return file({"type": "WordLevel", "unk_token": "a",
                 "vocab": {t: i for i, t in enumerate(WORDS)}},
                added_tokens=[added(WORDS.index("<s>"), "<s>", special=True)])


def normalizers():
    for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents",
                 "Nmt", "ByteLevel"):
        yield {"type": name}
    for left in (False, True):
        for right in (False, True):
            yield {"type": "Strip", "strip_left": left, "strip_right": right}
    yield {"type": "Prepend", "prepend": "\u2581"}
    yield {"type": "Prepend", "prepend": "x y"}
    for kind, pattern, content in (
            ("String", " ", "\u2581"), ("String", "aa", "b"),
            ("String", "", "-"), ("Regex", r"\s+", " "), ("Regex", "[aeiou]", ""),
            ("Regex", " {2,}", "\u2581"), ("Regex", r"(?=\p{N})", "#"),
            ("Regex", "\u0301|e", "EE"), ("String", "e\u0301", "\u00e9")):
        yield {"type": "Replace", "pattern": {kind: pattern},
               "content": content}
    for bits in range(16):
        yield {"type": "BertNormalizer", "clean_text": bool(bits & 1),
               "handle_chinese_chars": bool(bits & 2),
               "strip_accents": None if bits & 4 else bool(bits & 8),
               "lowercase": bool(bits & 8)}
    for rule in ("nmt_nfkc", "nfkc_cf"):
        yield {"type": "Precompiled", "rule": rule}
    yield {"type": "Sequence", "normalizers": [
        {"type": "Strip", "strip_left": True, "strip_right": False},
        {"type": "Sequence", "normalizers": [
            {"type": "NFD"}, {"type": "StripAccents"}]},
        {"type": "Lowercase"}, {"type": "Prepend", "prepend": "_"}]}


def metaspace(prepend, split, replacement="\u2581"):
    return {"type": "Metaspace", "replacement": replacement,
            "prepend_scheme": prepend, "split": split}


def pre_tokenizer_items():
    for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        yield [{"type": name}]
    for behavior in ("Isolated", "Removed", "MergedWithPrevious",
                     "MergedWithNext", "Contiguous"):
        yield [{"type": "Punctuation", "behavior": behavior}]
        yield [split(r"\p{N}+", behavior), {"type": "Punctuation"}]
        yield [split(" ", behavior, kind="String")]
    yield [{"type": "CharDelimiterSplit", "delimiter": "e"}]
    yield [{"type": "CharDelimiterSplit", "delimiter": "\u4e2d"}]
    for prepend in ("always", "first", "never"):
        for flag in (True, False):
            yield [metaspace(prepend, flag)]
            yield [{"type": "WhitespaceSplit"}, metaspace(prepend, flag)]
            yield [{"type": "Digits", "individual_digits": flag},
                   metaspace(prepend, True, "_")]
    yield [byte_level(True), split("[aeiou]")]


def decoder_items():
    yield None
    fallback, fuse = {"type": "ByteFallback"}, {"type": "Fuse"}
    spelled = byte_level(True)
    yield from (spelled, fallback, fuse)
    for prepend in ("always", "first", "never"):
        yield metaspace(prepend, True)
    for cleanup in (False, True):
        for prefix in ("##", "", "d"):
            yield {"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}
    for suffix in ("</w>", "o"):
        yield {"type": "BPEDecoder", "suffix": suffix}
    replace = {"type": "Replace", "pattern": {"String": "\u2581"},
               "content": " "}
    yield replace
    yield {"type": "Replace", "pattern": {"Regex": "o|[0-9]+"},
           "content": "00"}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    # Two strips of one token may cross in the oracle, which then panics.
    for steps in (
            [replace, fallback, fuse, strip], [replace, fallback, fuse],
            [fallback, fuse, strip | {"start": 3}], [replace, strip],
            [fuse, strip | {"start": 0, "stop": 2}],
            [fallback, metaspace("always", True)], [fuse, metaspace("first", True)],
            [metaspace("never", True), fuse, strip],
            [spelled, strip], [replace, spelled],
            [fallback, {"type": "WordPiece", "prefix": "##", "cleanup": True}],
            [{"type": "BPEDecoder", "suffix": "</w>"}, fuse, strip],
            [metaspace("always", True), spelled, strip]):
        yield {"type": "Sequence", "decoders": steps}


def charsmap(rule):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d"]), model_writer=model, vocab_size=8,
        normalization_rule_name=rule, minloglevel=2, hard_vocab_limit=False)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return base64.b64encode(
        proto.normalizer_spec.precompiled_charsmap).decode()


def resolved(patch):
    """Character maps are kept in two tokenizer files only."""
    patch = json.loads(json.dumps(patch))
    normalizer = patch.get("normalizer")
    if normalizer and "rule" in normalizer:
        normalizer["precompiled_charsmap"] = charsmap(normalizer.pop("rule"))
    return patch


def random_text(rng):
    parts = [rng.choice(POOL) if rng.random() < 0.7 else
             chr(rng.choice(RARE)) for _ in range(rng.randint(1, 14))]
    return "".join(parts)


def piece_entries(rng):
    base = pieces_base()
    def entry(patch, count):
        tokenizer = Tokenizer.from_str(json.dumps(base | resolved(patch)))
        cases = []
        for _ in range(count):
            text = random_text(rng)
            if rng.random() < 0.3:
                text = rng.choice([" ", "  ", "\t"]) + text
            try:
                cases.append([text, tokenizer.encode(text).ids])
            except BaseException as error:  # some normalizers panic
                if type(error).__name__ != "PanicException":
                    raise
        return {"base": "pieces", "patch": patch, "cases": cases}
    for normalizer in normalizers():
        yield entry({"normalizer": normalizer}, 40)
    plain = byte_level(False)
    for items in pre_tokenizer_items():
        yield entry(sequence(*items, plain), 30)
    lead = {"type": "Strip", "strip_left": True, "strip_right": True}
    for normalizer in (lead, {"type": "Lowercase"}, {"type": "NFKC"},
                       {"type": "BertNormalizer", "clean_text": True,
                        "handle_chinese_chars": True, "strip_accents": None,
                        "lowercase": True},
                       {"type": "Replace", "pattern": {"Regex": r"^\s+|a"},
                        "content": ""}):
        yield entry(sequence(metaspace("first", True), plain) |
                    {"normalizer": normalizer, "added_tokens": [
                        added(600 - 88, "<A>"), added(513, "nrm",
                                                      normalized=True)]}, 40)


def decode_entries(rng):
    base = words_base()
    for decoder in decoder_items():
        tokenizer = Tokenizer.from_str(json.dumps(base | {"decoder": decoder}))
        decodes = []
        for _ in range(60):
            ids = [rng.randrange(len(WORDS)) for _ in range(rng.randint(1, 8))]
            decodes.append([ids, tokenizer.decode(ids, False),
                            tokenizer.decode(ids, True)])
        yield {"base": "words", "patch": {"decoder": decoder},
               "decodes": decodes}


def main():
    rng = random.Random(20261123)
    base = json.loads(BASE.read_text())
    vocab = base["model"]["vocab"]
    entries = []
    for patch in configurations(len(vocab), vocab):
        merged = base | patch
        merged["model"] = base["model"] | patch.get("model", {})
        tokenizer = Tokenizer.from_str(json.dumps(merged))
        cases = []
        for _ in range(40):
            text = "".join(rng.choices(POOL, k=rng.randint(1, 14)))
            tokenizer.encode_special_tokens = False
            ids = tokenizer.encode(text).ids
            decoded = tokenizer.decode(ids, skip_special_tokens=True)
            tokenizer.encode_special_tokens = True
            as_text = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append([text, ids, as_text, decoded])
        entries.append({"base": "gpt2", "patch": patch, "cases": cases})
    entries += piece_entries(rng)
    entries += decode_entries(rng)
    lines = ",\n".join(json.dumps(entry, separators=(",", ":"))
                       for entry in entries)
    bases = json.dumps({"pieces": pieces_base(), "words": words_base()},
                       separators=(",", ":"))
    (HERE / "component_golden.json").write_text(
        f'{{"bases":{bases},\n"entries":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
