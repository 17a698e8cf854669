#!/usr/bin/env python3
"""Writes data/tokenizer_*.json and tokenizers/*/tokenizer.json.

The demo model's tokenizer is rebuilt with HF `tokenizers` from the GGUF's
vocabulary and merges as SmolLM2's own tokenizer.json has it: digits split one
by one, then GPT-2's byte-level regex, no unknown token: the 21 bytes that the
vocabulary lacks are dropped. (Transformers' GGUF conversion leaves the digits
out and adds decoders that the model does not have.)
"""

import json
import pathlib

from gguf import GGUFReader
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models,
                        pre_tokenizers, processors, trainers)

from corpus import corpus, training_text

HERE = pathlib.Path(__file__).resolve().parent
MODEL = (HERE.parents[1] / ".deps" / "models" /
         "SmolLM2-135M-Instruct.Q4_1.gguf")
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = 3  # GGUF token type
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


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


def train(pre_tokenizer, size, specials=()):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def tiny_tokenizers():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield "gpt2", train(byte_level, 600, SPECIALS[:1])
    yield "gpt2-prefix", train(
        pre_tokenizers.ByteLevel(add_prefix_space=True), 500)

    llama3 = train(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        700)
    begin = "<|begin_of_text|>"
    llama3.add_special_tokens([begin, "<|eot_id|>"])
    llama3.add_tokens([
        AddedToken("[SPECIAL]", lstrip=True, rstrip=False, normalized=False),
        AddedToken("fox", single_word=True, normalized=False)])
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, llama3.token_to_id(begin))])])
    yield "llama3", llama3

    yield "smollm", train(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), byte_level]), 512,
        SPECIALS)


def write_golden(name, tokenizer):
    cases = []
    for text in corpus():
        ids = tokenizer.encode(text).ids
        case = {
            "text": text, "ids": ids,
            "ids_without_special": tokenizer.encode(
                text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "decoded_skip_special": tokenizer.decode(
                ids, skip_special_tokens=True)}
        tokenizer.encode_special_tokens = True
        case["ids_special_as_text"] = tokenizer.encode(
            text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        cases.append(case)
    path = HERE / "data" / f"tokenizer_{name}.json"
    lines = ",\n".join(json.dumps(case, separators=(",", ":"))
                       for case in cases)
    path.write_text(f'{{"tokenizer":"{name}","cases":[\n{lines}\n]}}\n')


def main():
    (HERE / "data").mkdir(exist_ok=True)
    write_golden("smollm2", smollm2())
    for name, tokenizer in tiny_tokenizers():
        folder = HERE / "tokenizers" / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        write_golden(name, tokenizer)


if __name__ == "__main__":
    main()
