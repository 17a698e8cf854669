"""Seeded random adapters, bit for bit those of adapters/formats/random_adapter.

Element i of tensor t under seed s is
  k = sum of the four 16-bit lanes of mix(s ^ fnv1a64(t) + (i + 1) * GOLDEN)
  value = (k - 131070) * (std / 37837.22723720648)       float64, then float32
with mix the finaliser of SplitMix64: near to normal by Irwin-Hall, exact on
every machine because only integers and one product are involved.
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
DEVIATION = 37837.22723720648
STD = {"lora_A": 0.02, "lora_B": 0.01}  # by default
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def fnv1a64(text):
    value = 14695981039346656037
    for byte in text.encode():
        value = ((value ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(value)


def values(name, seed, count, std):
    """float32[count]."""
    with np.errstate(over="ignore"):
        start = np.uint64(seed) ^ fnv1a64(name)
        z = start + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    lane = np.uint64(0xFFFF)
    total = sum((z >> np.uint64(shift)) & lane for shift in (0, 16, 32, 48))
    return ((total.astype(np.int64) - 131070).astype(np.float64)
            * (std / DEVIATION)).astype(np.float32)


def tensor(name, seed, shape, dtype="bf16", std=STD):
    kind = "lora_A" if ".lora_A." in name else "lora_B"
    count = int(np.prod(shape))
    flat = torch.from_numpy(values(name, seed, count, std[kind]))
    return flat.reshape(shape).to(DTYPES[dtype]).contiguous()


def write(folder, peft_model, seed, dtype="bf16", std=STD):
    """Fills every LoRA tensor of `peft_model` from the seed and saves PEFT's
    pair to `folder`. The config is what PEFT itself writes."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    with torch.no_grad():
        for key, parameter in peft_model.named_parameters():
            if ".lora_A." not in key and ".lora_B." not in key:
                continue
            name = key.replace(".default.", ".")
            state[name] = tensor(name, seed, tuple(parameter.shape), dtype,
                                 std)
            parameter.copy_(state[name].float())
    save_file({name: state[name] for name in sorted(state)},
              folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = peft_model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = None
    plain = lambda v: sorted(v) if isinstance(v, set) else (
        v.value if hasattr(v, "value") else v)
    config = {k: plain(v) for k, v in config.items()}
    config["inference_mode"] = True
    (folder / "adapter_config.json").write_text(
        json.dumps(config, indent=2, sort_keys=True, default=str) + "\n")
    return config
