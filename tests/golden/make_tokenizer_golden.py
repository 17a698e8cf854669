#!/usr/bin/env python3
"""Writes tokenizers/*/tokenizer.json, data/tokenizer_corpus.json and
data/tokenizer_*.json.

The demo model's tokenizer is rebuilt with HF `tokenizers` from the GGUF's
vocabulary and merges as SmolLM2's own tokenizer.json has it: digits split one
by one, then GPT-2's byte-level regex, no unknown token: the 21 bytes that the
vocabulary lacks are dropped. (Transformers' GGUF conversion leaves the digits
out and adds decoders that the model does not have.) The others:
tokenizer_families.py.
"""

import json
import pathlib
import random

from gguf import GGUFReader
from tokenizers import (AddedToken, Tokenizer, decoders, models,
                        pre_tokenizers)

from corpus import hard_corpus
from tokenizer_families import families

HERE = pathlib.Path(__file__).resolve().parent
MODEL = (HERE.parents[1] / ".deps" / "models" /
         "SmolLM2-135M-Instruct.Q4_1.gguf")
CONTROL = 3  # GGUF token type
SHOWN = 24  # ids of results up to this length are stored as they are


def smollm2():
    fields = GGUFReader(MODEL).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" "))
              for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([
        AddedToken(token, normalized=False, special=True)
        for token, kind in zip(tokens, types) if kind == CONTROL])
    return tokenizer


def fnv(data):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def digest(result):
    """Of a text, or of ids as little-endian 32-bit numbers."""
    if isinstance(result, str):
        return fnv(result.encode())
    return fnv(b"".join(i.to_bytes(4, "little") for i in result))


def stored(ids):
    return ids if len(ids) <= SHOWN else [len(ids), digest(ids)]


def cases(tokenizer, texts):
    for text in texts:
        ids = tokenizer.encode(text).ids
        case = [stored(ids), stored(tokenizer.encode(
            text, add_special_tokens=False).ids)]
        tokenizer.encode_special_tokens = True
        case.append(stored(tokenizer.encode(
            text, add_special_tokens=False).ids))
        tokenizer.encode_special_tokens = False
        yield case + [digest(tokenizer.decode(ids, skip_special_tokens=skip))
                      for skip in (False, True)]


def decodes(tokenizer, count=60):
    """Texts of random ids: of any, and of the byte tokens' neighbourhood."""
    rng = random.Random(11)
    size = tokenizer.get_vocab_size()
    for i in range(count):
        high = size if i % 2 else min(size, 300)
        ids = [rng.randrange(high) for _ in range(rng.randint(1, 14))]
        yield [ids] + [tokenizer.decode(ids, skip_special_tokens=skip)
                       for skip in (False, True)]


def write_lines(path, head, lines):
    path.write_text(head + ",\n".join(
        json.dumps(line, separators=(",", ":")) for line in lines) + "\n]")


def write_golden(name, tokenizer, texts):
    path = HERE / "data" / f"tokenizer_{name}.json"
    write_lines(path, f'{{"tokenizer":"{name}","cases":[\n',
                cases(tokenizer, texts))
    with path.open("a") as file:
        file.write(',"decodes":[\n' + ",\n".join(
            json.dumps(line, separators=(",", ":"))
            for line in decodes(tokenizer)) + "\n]}\n")


def main():
    (HERE / "data").mkdir(exist_ok=True)
    texts = hard_corpus()
    write_lines(HERE / "data" / "tokenizer_corpus.json", "[\n", texts)
    write_golden("smollm2", smollm2(), texts)
    for name, tokenizer in families():
        folder = HERE / "tokenizers" / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"),
                       pretty=tokenizer.get_vocab_size() < 800)
        # As the file says, which is not always as it was built.
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        write_golden(name, tokenizer, texts)


if __name__ == "__main__":
    main()
