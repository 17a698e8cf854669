#!/usr/bin/env python3
"""Writes a Llama of random weights, of any size, as a Hugging Face directory.

    make_random_model.py [--size 8b|tiny] TOKENIZER_FROM OUTPUT

For benches: what it says is noise, what it costs is that of a model of its
shape. The tokenizer is that of the directory TOKENIZER_FROM; the vocabulary is
larger than what it knows. One block of random numbers is written again and
again: the 16 GB of an 8B model take as long as the disk does.
"""

import argparse
import json
import random
import shutil
import struct
import sys
from array import array
from collections.abc import Iterator
from math import prod
from pathlib import Path

DEVIATION = 0.02
# Random numbers. A prime: rows whose length is a power of two begin at another
# of them each, so no two are equal.
BLOCK = 1_048_583
SIZES = {
    "8b": dict(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        tie_word_embeddings=False,
    ),
    # Small enough for any test of this script.
    "tiny": dict(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=1024,
        tie_word_embeddings=False,
    ),
}


def config_of(size: str) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **SIZES[size],
    }


def tensors_of(config: dict) -> Iterator[tuple[str, list[int]]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [hidden]
        yield prefix + "self_attn.q_proj.weight", [hidden, hidden]
        yield prefix + "self_attn.k_proj.weight", [kv, hidden]
        yield prefix + "self_attn.v_proj.weight", [kv, hidden]
        yield prefix + "self_attn.o_proj.weight", [hidden, hidden]
        yield prefix + "post_attention_layernorm.weight", [hidden]
        yield prefix + "mlp.gate_proj.weight", [inner, hidden]
        yield prefix + "mlp.up_proj.weight", [inner, hidden]
        yield prefix + "mlp.down_proj.weight", [hidden, inner]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [config["vocab_size"], hidden]


def to_bf16(values: list[float]) -> bytes:
    """To nearest; a tie goes up."""
    bits = array("I", array("f", values).tobytes())
    return array("H", [(word + 0x8000) >> 16 for word in bits]).tobytes()


def write_tensors(config: dict, path: Path) -> None:
    header: dict = {}
    end = 0
    for name, shape in tensors_of(config):
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = random.Random(1)
    block = to_bf16([rng.gauss(0, DEVIATION) for _ in range(BLOCK)])
    at = 0
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors_of(config):
            if len(shape) == 1:
                file.write(to_bf16([1.0] * shape[0]))
                continue
            left = 2 * prod(shape)
            while left > 0:
                piece = memoryview(block)[at : at + left]
                file.write(piece)
                left -= len(piece)
                at = (at + len(piece)) % len(block)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="8b")
    parser.add_argument("tokenizer_from", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    config = config_of(arguments.size)
    (arguments.output / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(arguments.tokenizer_from / name, arguments.output / name)
    write_tensors(config, arguments.output / "model.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
