"""Known values of GGUF block types from the `gguf` package, and of the row
order of q and k from Transformers' own GGUF loader: data/dequant.json."""

import json
import pathlib

import gguf
import numpy as np
import torch
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

HERE = pathlib.Path(__file__).resolve().parent
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]
ELEMENTS = 128


def hexadecimal(array):
    return array.tobytes().hex()


def stored_bytes(name, generator):
    """Quantised noise of three sizes, then blocks of random codes."""
    kind = gguf.GGMLQuantizationType[name]
    noise = generator.standard_normal(ELEMENTS).astype(np.float32)
    noise[:32] *= 1e-6  # f16 subnormals as scales
    noise[64:96] *= 300
    if name == "F32":
        return noise.view(np.uint8)
    if name == "F16":
        return noise.astype(np.float16).view(np.uint8)
    raw = gguf.quants.quantize(noise, kind).view(np.uint8).reshape(-1)
    if name == "BF16":
        return raw
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = generator.integers(0, 256, (4, size), dtype=np.uint8)
    header = 4 if name == "Q4_1" else 2
    scales = generator.uniform(-2, 2, (4, header // 2)).astype(np.float16)
    blocks[:, :header] = scales.view(np.uint8)
    return np.concatenate([raw, blocks.reshape(-1)])


def case(name, generator):
    kind = gguf.GGMLQuantizationType[name]
    raw = stored_bytes(name, generator)
    if name in ("F32", "F16"):
        values = raw.view(np.dtype(name.replace("F", "float"))).astype(
            np.float32)
    else:
        values = gguf.quants.dequantize(raw, kind).astype(np.float32)
    rounded = torch.from_numpy(values.copy()).to(torch.bfloat16)
    return {"type": name, "bytes": hexadecimal(raw),
            "fp32": hexadecimal(values.reshape(-1)),
            "bf16": hexadecimal(rounded.view(torch.int16).numpy())}


def row_order(heads, kv_heads, head_dim):
    """For each row in Hugging Face's order, the stored row it comes from."""
    processor = LlamaTensorProcessor(config={})
    stored = np.arange(kv_heads * head_dim, dtype=np.float32)[:, None]
    rows = processor._reverse_permute_weights(stored, heads, kv_heads)
    return {"heads": kv_heads, "head_dim": head_dim,
            "rows": rows[:, 0].astype(int).tolist()}


def main():
    generator = np.random.default_rng(20261123)
    data = {"cases": [case(name, generator) for name in TYPES],
            "row_orders": [row_order(4, 4, 8), row_order(9, 3, 64)]}
    path = HERE / "data" / "dequant.json"
    path.write_text(json.dumps(data, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
