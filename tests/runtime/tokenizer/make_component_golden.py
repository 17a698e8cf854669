#!/usr/bin/env python3
"""Writes component_golden.json: Hugging Face `tokenizers` on the vocabulary of
tests/golden/tokenizers/gpt2 with other components around it.

Each entry holds the top-level members of tokenizer.json to replace (`model`
members are merged into the model) and texts with their ids. Needs the package
`tokenizers`; written by 0.23.
"""

import json
import pathlib
import random

from tokenizers import Tokenizer

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
        entries.append({"patch": patch, "cases": cases})
    lines = ",\n".join(json.dumps(entry, separators=(",", ":"))
                       for entry in entries)
    (HERE / "component_golden.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
