#!/usr/bin/env python3
"""Writes gguf_lora/: small adapters for models/ as PEFT saves them and as
llama.cpp's own converter (convert_lora_to_gguf.py) makes GGUF files of them.

make_gguf_lora.py [NAME ...]. For each name <name>.json and <name>.safetensors
(PEFT's adapter_config.json and adapter_model.safetensors) and <name>.gguf.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "gguf_lora"
CONVERTER = (HERE.parents[1] / ".deps" / "oracle-llama.cpp" /
             "convert_lora_to_gguf.py")
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
          "down_proj"]

# name: (model, type of both files, PEFT's config)
ADAPTERS = {
    # Every module; ranks by module.
    "llama-f32": ("tiny-llama", "f32", dict(
        r=2, lora_alpha=7, target_modules=LINEAR,
        rank_pattern={"k_proj": 3, "layers.1.self_attn.q_proj": 1,
                      "down_proj": 1})),
    "llama-f16": ("tiny-llama", "f16", dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"])),
    "llama-bf16": ("tiny-llama", "bf16", dict(
        r=1, lora_alpha=0.5, target_modules=["q_proj", "k_proj"])),
    # One key-value head; some layers only.
    "llama-one-kv": ("tiny-llama-untied-sharded", "f32", dict(
        r=3, lora_alpha=16, target_modules=["q_proj", "k_proj", "o_proj"],
        layers_to_transform=[1])),
    "mistral": ("tiny-mistral", "bf16", dict(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"])),
    "qwen2": ("tiny-qwen2", "f32", dict(
        r=2, lora_alpha=2, target_modules=["q_proj", "k_proj", "up_proj"])),
    "qwen3": ("tiny-qwen3", "f16", dict(
        r=2, lora_alpha=2, target_modules=["q_proj", "k_proj"])),
    "gemma2": ("tiny-gemma2", "bf16", dict(
        r=1, lora_alpha=3, target_modules=["q_proj", "gate_proj"])),
    "gemma3": ("tiny-gemma3", "bf16", dict(
        r=1, lora_alpha=3, target_modules=["k_proj", "down_proj"])),
    # Fused modules.
    "phi3": ("tiny-phi3", "f32", dict(
        r=2, lora_alpha=5, target_modules=["qkv_proj", "gate_up_proj",
                                           "o_proj"])),
    # The converter transposes Conv1D, whose adapters PEFT doesn't.
    "gpt2": ("tiny-gpt2", "bf16", dict(
        r=1, lora_alpha=2, target_modules=["c_attn"], fan_in_fan_out=True)),
}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def save_adapter(name, folder):
    model, kind, config = ADAPTERS[name]
    torch.manual_seed(sum(name.encode()))
    base = AutoModelForCausalLM.from_pretrained(HERE / "models" / model,
                                                dtype=torch.float32)
    adapter = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **config),
                             autocast_adapter_dtype=False)
    for key, value in adapter.named_parameters():
        if "lora_" in key:
            value.data = (torch.randn(value.shape) * 0.05).to(DTYPES[kind])
    adapter.peft_config["default"].base_model_name_or_path = model
    adapter.save_pretrained(folder)
    # A card, from which the converter takes the name of the base.
    (folder / "README.md").write_text(
        f"---\nbase_model: example/{model}\n---\n")


def main():
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ADAPTERS:
        model, kind, _ = ADAPTERS[name]
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder) / name  # its name goes into the file
            save_adapter(name, folder)
            shutil.copyfile(folder / "adapter_model.safetensors",
                            OUT / f"{name}.safetensors")
            config = json.loads((folder / "adapter_config.json").read_text())
            config["target_modules"].sort()
            (OUT / f"{name}.json").write_text(json.dumps(config) + "\n")
            subprocess.run(
                [sys.executable, CONVERTER, "--base", HERE / "models" / model,
                 "--outtype", kind, "--outfile", OUT / f"{name}.gguf", folder],
                check=True)
        print(name, [(OUT / f"{name}.{end}").stat().st_size
                     for end in ("gguf", "safetensors")], flush=True)


if __name__ == "__main__":
    main()
