#!/usr/bin/env python3
"""What every peer is given, made in the Transformers environment:

  hf/               the demo GGUF dequantised, bf16, with its tokenizer
  adapters/SHAPE/i  PEFT's pair, the tensors of `descant bench` under SEED + i

  make_models.py GGUF FOLDER SEED
"""

import json
import pathlib
import sys

import peft
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import workloads

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "golden"))
import random_adapter  # noqa: E402

SCALE = 16  # alpha / rank, as in `descant bench`


def make_base(gguf, folder):
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    # The one that was loaded counts as quantised and refuses to be saved.
    fresh = LlamaForCausalLM(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    # Transformers 5 writes rope_parameters, older readers want rope_theta.
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written.setdefault("rope_theta",
                       written.get("rope_parameters", {}).get("rope_theta"))
    written.pop("quantization_config", None)
    path.write_text(json.dumps(written, indent=2) + "\n")


def make_adapter(base, shape, seed, folder):
    """Tensors named and shaped by PEFT itself, filled from the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for path, module in base.named_modules():
        if path.rsplit(".", 1)[-1] not in shape.modules:
            continue
        for name, dims in (("lora_A", (shape.rank, module.in_features)),
                           ("lora_B", (module.out_features, shape.rank))):
            full = f"base_model.model.{path}.{name}.weight"
            tensors[full] = random_adapter.tensor(full, seed, dims)
    save_file(tensors, folder / "adapter_model.safetensors",
              metadata={"format": "pt"})
    config = peft.LoraConfig(
        r=shape.rank, lora_alpha=SCALE * shape.rank, lora_dropout=0.0,
        target_modules=sorted(shape.modules), task_type="CAUSAL_LM")
    config.inference_mode = True
    config.base_model_name_or_path = ""
    config.save_pretrained(folder)


def main():
    gguf, out, seed = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(
        sys.argv[3])
    if not (out / "hf" / "model.safetensors").exists():
        make_base(gguf, out / "hf")
    base = AutoModelForCausalLM.from_pretrained(out / "hf", dtype=torch.float32)
    for shape in workloads.SHAPES.values():
        for i in range(workloads.ADAPTERS):
            make_adapter(base, shape, seed + i,
                         out / "adapters" / shape.name / str(i))


if __name__ == "__main__":
    main()
