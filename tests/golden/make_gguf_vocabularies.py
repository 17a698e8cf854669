#!/usr/bin/env python3
"""Writes gguf/vocab-*.gguf and data/gguf_vocab_*.json: small vocabularies as
tokenizer.json, with the components that published models of each kind have,
and the same ones as llama.cpp's converter stores them. The ids of the hard
corpus come from Hugging Face `tokenizers` on tokenizer.json.
"""

import io
import json
import pathlib
import subprocess
import sys
import tempfile

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models,
                        normalizers, pre_tokenizers, processors, trainers)
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

from corpus import corpus, training_text

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "gguf"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|"
        r"\s+(?!\S)|\s+")
UPPER, LOWER = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
                r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")
GPT4O_TAIL = TAIL.replace("[\\r\\n]*", "[\\r\\n/]*")


def cased(contractions):
    start = r"[^\r\n\p{L}\p{N}]?"
    return (f"{start}{UPPER}*{LOWER}+{contractions}|"
            f"{start}{UPPER}+{LOWER}*{contractions}")


LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL)
QWEN2 = LLAMA3.replace("{1,3}", "")
DEEPSEEK_LETTERS = r"\s?" + (
    "[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf"
    "\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f"
    "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a"
    "-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
    "\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-"
    "\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6"
    "-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-"
    "\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183"
    "\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-"
    "\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-"
    "\U0001e943]+")
HAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

SPLITS = {
    # pre: patterns, one after the other ("gpt2": ByteLevel's own)
    "gpt-2": ["gpt2"],
    "smollm": [r"\p{N}", "gpt2"],
    "llama-bpe": [LLAMA3],
    "dbrx": [LLAMA3],
    "qwen2": [QWEN2],
    "tekken": [cased("") + r"|\p{N}|" + GPT4O_TAIL],
    "gpt-4o": [cased(CONTRACTIONS + "?") + r"|\p{N}{1,3}|" + GPT4O_TAIL],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", "gpt2", r"\p{N}+",
                "[0-9][0-9][0-9]"],
    "deepseek-llm": [
        r"[\r\n]", DEEPSEEK_LETTERS,
        r"\s?[!-/:-~" "\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$", HAN, r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN, r"\p{N}"],
    "deepseek-v3": [
        r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
        r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"],
}
LEADING_BOS = {"llama-bpe", "tekken"}  # ignore_merges, too
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(pre):
    tokenizer = Tokenizer(models.BPE())
    steps = []
    for pattern in SPLITS[pre]:
        if pattern == "gpt2" and pattern != SPLITS[pre][-1]:
            steps.append(pre_tokenizers.Split(Regex(GPT2), "isolated"))
        elif pattern == "gpt2":
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
        else:
            steps.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
    if SPLITS[pre][-1] != "gpt2":
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False,
                                              use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_tokens([AddedToken("[SPECIAL]", normalized=False)])
    if pre in LEADING_BOS:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
        fields = json.loads(tokenizer.to_str())
        fields["model"]["ignore_merges"] = True
        tokenizer = Tokenizer.from_str(json.dumps(fields))
    return tokenizer


def sentence_piece(kind):
    """(tokenizer.model's bytes, the same as tokenizer.json)."""
    gemma = kind == "gemma"
    stream = io.BytesIO()
    options = dict(
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
        eos_piece="<eos>", bos_piece="<bos>",
        user_defined_symbols=["\u2581\u2581", "\u2581\u2581\u2581", "\n\n",
                              "<table>", "[@BOS@]"]) if gemma else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_text()), model_writer=stream,
        vocab_size=540, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True,
        add_dummy_prefix=not gemma, character_coverage=0.98,
        minloglevel=2, **options)
    model = sentencepiece.SentencePieceProcessor(
        model_proto=stream.getvalue())
    pieces = [(model.id_to_piece(i), model.get_score(i))
              for i in range(model.vocab_size())]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    unknown = "<unk>"
    tokenizer = Tokenizer(models.BPE(
        vocab=vocab, merges=generate_merges(vocab, pieces),
        unk_token=unknown, fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(),
             decoders.Fuse()]
    if gemma:
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(
            " ", "merged_with_previous")
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), replace])
        steps.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(steps)
    control = [piece for i, (piece, _) in enumerate(pieces)
               if model.is_control(i) or model.is_unknown(i)]
    phi = kind == "phi3"
    tokenizer.add_special_tokens([
        AddedToken(piece, normalized=False, rstrip=phi and piece == "</s>")
        for piece in control])
    if gemma:
        tokenizer.add_tokens([
            AddedToken(piece, normalized=False)
            for piece in options["user_defined_symbols"]])
    if phi:
        tokenizer.add_special_tokens(
            [AddedToken("<|endoftext|>", normalized=False)] + [
                AddedToken(piece, normalized=False, rstrip=True)
                for piece in ("<|user|>", "<|end|>", "<|im_start|>")])
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A" if gemma else "<s> $A",
            special_tokens=[("<bos>", 2) if gemma else ("<s>", 1)])
    return stream.getvalue(), tokenizer


CONFIGS = {
    "llama": ("LlamaForCausalLM", "llama"), "gemma": ("Gemma2ForCausalLM",
                                                      "gemma2"),
    "phi3": ("Phi3ForCausalLM", "phi3"),
}


def write_source(folder, kind, tokenizer, bos, eos, add_bos):
    architecture, model_type = CONFIGS[kind]
    (folder / "config.json").write_text(json.dumps(dict(
        architectures=[architecture], model_type=model_type, head_dim=16,
        hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=4, rms_norm_eps=1e-5,
        max_position_embeddings=64, original_max_position_embeddings=64,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0,
                             original_max_position_embeddings=64),
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        sliding_window=32, vocab_size=tokenizer.get_vocab_size(),
        bos_token_id=tokenizer.token_to_id(bos),
        eos_token_id=tokenizer.token_to_id(eos))))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos,
                                   eos_token=eos)
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    fields = json.loads(path.read_text())
    fields["add_bos_token"] = add_bos
    fields["added_tokens_decoder"] = {
        str(i): {"content": token.content, "special": token.special,
                 "lstrip": False, "rstrip": token.rstrip,
                 "normalized": False, "single_word": False}
        for i, token in tokenizer.get_added_tokens_decoder().items()}
    path.write_text(json.dumps(fields))


def texts():
    chosen = [text for text in corpus() if len(text) <= 200]
    extra = ["<s>Hello</s> world", "<|user|>\n Hi<|end|> \n<|user|>x",
             "<bos>a<table>  b\n\n\n  c   d", "a    b     c", "<0x41> <unk>",
             "\u2581x \u2581\u2581", "<|endoftext|> x </s> y", "DON'T don'T",
             "camelCase HTMLParser XMLHttp \u00c9COLE \u01c5x", "1234567 a1b22",
             "  leading", "trailing   ", "\n\n\n\n"]
    return chosen + extra


def main():
    OUT.mkdir(exist_ok=True)
    cases = texts()
    (HERE / "data" / "gguf_vocab_texts.json").write_text(
        json.dumps(cases, separators=(",", ":")) + "\n")
    jobs, oracles = [], {}
    with tempfile.TemporaryDirectory() as root:
        for pre in SPLITS:
            folder = pathlib.Path(root) / pre
            folder.mkdir()
            oracles[pre] = byte_level(pre)
            write_source(folder, "llama", oracles[pre], "<|im_start|>",
                         "<|im_end|>", pre in LEADING_BOS)
            jobs.append([str(folder), str(OUT / f"vocab-{pre}.gguf"), {
                "type": "f32", "name": pre, "pre": pre, "vocab_only": True}])
        for kind in CONFIGS:
            name = f"spm-{kind}"
            folder = pathlib.Path(root) / name
            folder.mkdir()
            model, oracles[name] = sentence_piece(kind)
            gemma = kind == "gemma"
            write_source(folder, kind, oracles[name],
                         "<bos>" if gemma else "<s>",
                         "<eos>" if gemma else "</s>", kind != "phi3")
            (folder / "tokenizer.model").write_bytes(model)
            jobs.append([str(folder), str(OUT / f"vocab-{name}.gguf"), {
                "type": "f32", "name": name, "vocab_only": True}])
        subprocess.run([sys.executable, HERE / "convert_to_gguf.py",
                        json.dumps(jobs)], check=True)
    for name, tokenizer in oracles.items():
        rows = []
        for text in cases:
            ids = tokenizer.encode(text).ids
            rows.append([ids, tokenizer.decode(ids,
                                               skip_special_tokens=True)])
        path = HERE / "data" / f"gguf_vocab_{name}.json"
        path.write_text(json.dumps(rows, separators=(",", ":")) + "\n")
        print(name, (OUT / f"vocab-{name}.gguf").stat().st_size,
              path.stat().st_size)


if __name__ == "__main__":
    main()
