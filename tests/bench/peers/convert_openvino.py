#!/usr/bin/env python3
"""The base model as OpenVINO IR with weights in bf16 and in int8 (per channel,
optimum-intel's default), with its tokenizer.

  convert_openvino.py HF_FOLDER OUT    makes OUT/bf16 and OUT/int8
"""

import pathlib
import sys

import torch
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig


def main():
    source, out = sys.argv[1], pathlib.Path(sys.argv[2])
    for name, quantization in (
            ("bf16", None),
            ("int8", OVWeightQuantizationConfig(bits=8, sym=True))):
        if (out / name / "openvino_model.xml").exists():
            continue
        options = {"load_in_8bit": False} if quantization is None else {
            "quantization_config": quantization}
        model = OVModelForCausalLM.from_pretrained(
            source, export=True, compile=False, torch_dtype=torch.bfloat16,
            **options)
        model.save_pretrained(out / name)


if __name__ == "__main__":
    main()
