#!/usr/bin/env python3
"""Writes gguf/*.gguf and data/gguf_*.json: the models of models/ as llama.cpp's
converter stores them, and what Transformers computes from them in fp32.

Where GGUF has no key for something, the model is changed to what GGUF implies
(EDITS) before it is converted. Transformers reads each file itself; where it
reads the keys wrongly, it gets the configuration from the model's directory,
and only the tensors from the file (`keys` says which).
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from make_golden import VERSIONS, oracle, prompts

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "gguf"
NO_WINDOW = {"sliding_window": None}
GEMMA = {"query_pre_attn_scalar": 16}  # = head_dim

# name: (model, changes to its configuration, options of the converter)
MODELS = {
    "llama-f32": ("tiny-llama-rope-linear", {"num_hidden_layers": 1},
                  {"type": "f32"}),
    "llama-rope-llama3": ("tiny-llama-rope-llama3", {}, {"type": "bf16"}),
    "llama-bias": ("tiny-llama-bias", {}, {"type": "bf16"}),
    "llama-fused": ("tiny-llama-untied-sharded", {},
                    {"type": "bf16", "fuse_qkv": True}),
    "llama-split": ("tiny-llama-rope-linear", {},
                    {"type": "bf16", "split_max_tensors": 8}),
    "llama-f16": ("tiny-llama", {}, {"type": "f16"}),
    "llama-mix": ("tiny-llama-rope-linear", {"rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0}}, {"type": "f32"}),
    "mistral": ("tiny-mistral", NO_WINDOW, {"type": "bf16"}),
    "qwen2": ("tiny-qwen2", {"use_sliding_window": False, **NO_WINDOW,
                             "layer_types": ["full_attention"] * 3},
              {"type": "bf16"}),
    "qwen3": ("tiny-qwen3", {}, {"type": "bf16"}),
    "gemma2": ("tiny-gemma2", GEMMA, {"type": "bf16"}),
    "gemma3": ("tiny-gemma3", GEMMA, {"type": "bf16"}),
    "phi3": ("tiny-phi3", {}, {"type": "bf16"}),
    "phi3-longrope": ("tiny-phi3-longrope", {}, {"type": "bf16"}),
    "gpt2": ("tiny-gpt2", {}, {"type": "bf16"}),
}
# Of "llama-mix": block types by a part of the tensor's name.
MIX = {"attn_q.": "Q8_0", "attn_k.": "Q5_1", "attn_v.": "Q5_0",
       "attn_output.": "Q4_1", "ffn_gate.": "Q4_0", "ffn_up.": "Q5_0",
       "ffn_down.": "Q4_1", "token_embd.": "Q8_0"}
LENGTHS = (5, 70)  # beyond every window


def prepare(name, folder):
    """The model with its edits, as the converter wants it."""
    model, edits, _ = MODELS[name]
    source = HERE / "models" / model
    config = AutoConfig.from_pretrained(source)
    for key, value in edits.items():
        setattr(config, key, value)
    loaded = AutoModelForCausalLM.from_pretrained(source, config=config,
                                                  dtype=torch.bfloat16)
    loaded.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / file, folder)
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    if fields["model_type"] == "gpt2":  # no longer written by Transformers
        fields["n_ctx"] = fields["n_positions"]
    if fields["model_type"] == "phi3":
        fields["rope_parameters"].setdefault(
            "original_max_position_embeddings",
            fields["original_max_position_embeddings"])
    path.write_text(json.dumps(fields))
    if fields["model_type"] == "gemma3_text":  # cut to the tokenizer's size
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        vocab = tokenizer["model"]["vocab"]
        for i in range(len(vocab), fields["vocab_size"]):
            vocab[f"<unused{i}>"] = i
        path.write_text(json.dumps(tokenizer))


def convert(name, folder):
    for old in OUT.glob(f"{name}[.-]*gguf"):
        if old.name == f"{name}.gguf" or "-of-" in old.name:
            old.unlink()
    # With "mistral" in its name Transformers 5.17 can't read a llama file.
    options = {"name": "tiny", "pre": "smollm", **MODELS[name][2]}
    job = [str(folder), str(OUT / f"{name}.gguf"), options]
    subprocess.run([sys.executable, HERE / "convert_to_gguf.py",
                    json.dumps([job])], check=True)
    files = sorted(OUT.glob(f"{name}.gguf")) or sorted(
        OUT.glob(f"{name}-00*.gguf"))
    return files[0]


def quantise(path):
    """Rewrites the file with the block types of MIX."""
    reader = gguf.GGUFReader(path)
    fields = {key: field for key, field in reader.fields.items()
              if not key.startswith("GGUF.")}
    writer = gguf.GGUFWriter(
        path.with_suffix(".tmp"),
        fields.pop("general.architecture").contents())
    for key, field in fields.items():
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=sub)
    for tensor in reader.tensors:
        name = next((v for k, v in MIX.items() if k in tensor.name), None)
        data = np.array(tensor.data)
        if name is None:
            writer.add_tensor(tensor.name, data)
            continue
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor(tensor.name, gguf.quants.quantize(data, kind),
                          raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".tmp").replace(path)


@torch.inference_mode()
def distance(one, other, vocab):
    ids = torch.tensor(prompts(vocab, [90], 3))
    a = torch.log_softmax(one(input_ids=ids).logits.float(), -1)
    b = torch.log_softmax(other(input_ids=ids).logits.float(), -1)
    return float((a - b).abs().max())


def load_gguf(path, plain, config=None):
    """Transformers' own reading and its distance from `plain`; infinite where
    it can't read or run the file."""
    extra = {} if config is None else {"config": config}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32,
            attn_implementation="eager", **extra)
        return model, distance(model, plain, plain.config.vocab_size)
    except Exception as error:  # whatever it can't do
        print("  Transformers' GGUF reader:", repr(error)[:160])
        return None, float("inf")


def choose(name, path, folder):
    """(the oracle, how far its keys are the file's)."""
    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager")
    own, gap = load_gguf(path, plain)
    print(f"  {name}: Transformers from the file alone: {gap:.2g}")
    if own is not None and (name == "llama-mix" or gap < 1e-3):
        return own, "file"
    given, gap = load_gguf(path, plain, AutoConfig.from_pretrained(folder))
    print(f"  {name}: with the directory's configuration: {gap:.2g}")
    if gap < 1e-3:
        return given, "directory"
    return plain, "directory, tensors too"


def main():
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            prepare(name, folder)
            path = convert(name, folder)
            if name == "llama-mix":
                quantise(path)
            model, keys = choose(name, path, folder)
            cases = []
            for prompt in prompts(model.config.vocab_size, LENGTHS, 7):
                tokens, top, gaps = oracle(model, prompt)
                cases.append({"adapter": "", "prompt_ids": prompt,
                              "tokens": tokens, "top": top, "gaps": gaps})
        golden = HERE / "data" / f"gguf_{name.replace('-', '_')}.json"
        golden.write_text(json.dumps(
            {"model": path.name, "keys": keys, "source": MODELS[name][0],
             "made_with": VERSIONS,
             "adapters": [{"name": "", "kind": "base"}], "cases": cases},
            separators=(",", ":")) + "\n")
        print(name, path.stat().st_size, keys, flush=True)


if __name__ == "__main__":
    main()
