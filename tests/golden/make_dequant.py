"""Known values of GGUF block types from the `gguf` package, and of the row
order of q and k from Transformers' own GGUF loader: data/dequant.json."""

import json
import pathlib

import gguf
import numpy as np
import torch
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

HERE = pathlib.Path(__file__).resolve().parent
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
         "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"]
ELEMENTS = 128  # that are quantised, where the package has a quantiser
# Byte offsets of a block's half-precision scales; 0 where there is no other.
SCALES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
# One block each: zeros of both signs, subnormals, the extremes, plain ones. No
# infinities and NaNs: no quantiser writes them.
SCALE_VALUES = [0.0, -0.0, 2 ** -24, -2.5e-5, 65504, -65504, -0.37, 0.0121]


def hexadecimal(array):
    return array.tobytes().hex()


def quantised_noise(kind, generator):
    """Noise of three sizes."""
    noise = generator.standard_normal(ELEMENTS).astype(np.float32)
    noise[:32] *= 1e-6  # f16 subnormals as scales
    noise[64:96] *= 300
    if kind == gguf.GGMLQuantizationType.F32:
        return noise.view(np.uint8)
    if kind == gguf.GGMLQuantizationType.F16:
        specials = [0.0, -0.0, 2 ** -24, -2 ** -14, 65504, -np.inf]
        noise[:len(specials)] = specials
        return noise.astype(np.float16).view(np.uint8)
    return gguf.quants.quantize(noise, kind).view(np.uint8).reshape(-1)


def random_blocks(name, generator):
    """Random codes and small scales under chosen half-precision scales."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    blocks = generator.integers(0, 256, (len(SCALE_VALUES), size),
                                dtype=np.uint8)
    for offset in SCALES.get(name, [0]):
        scales = np.array(SCALE_VALUES, dtype=np.float16)
        if offset in (2, 82):  # minimums: the same values beside other scales
            scales = np.roll(scales, 3)
        blocks[:, offset:offset + 2] = scales[:, None].view(np.uint8)
    return blocks.reshape(-1)


def stored_bytes(name, generator):
    kind = gguf.GGMLQuantizationType[name]
    if name in ("F32", "F16", "BF16"):
        return quantised_noise(kind, generator)
    blocks = random_blocks(name, generator)
    try:
        return np.concatenate([quantised_noise(kind, generator), blocks])
    except (NotImplementedError, gguf.quants.QuantError):  # it only reads it
        return blocks


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
