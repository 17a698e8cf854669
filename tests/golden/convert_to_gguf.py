#!/usr/bin/env python3
"""llama.cpp's own converter on a small model: convert_to_gguf.py SOURCE OUT
JSON. In a process of its own, because the converter brings another version of
the `gguf` package than the one in the oracle's environment.

Two of its rules don't hold for small models and are left out: the name of the
pre-tokenizer comes from the options, not from a hash that only published
tokenizers have, and a byte-level tokenizer is taken as one in every family.
"""

import json
import logging
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
CONVERTER = HERE.parents[1] / ".deps" / "oracle-llama.cpp"
sys.path[:0] = [str(CONVERTER / "gguf-py"), str(CONVERTER)]

import gguf  # noqa: E402
import torch  # noqa: E402
from conversion import ModelBase, get_model_class  # noqa: E402
from conversion.base import ModelType, get_model_architecture  # noqa: E402

FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32,
              "f16": gguf.LlamaFileType.MOSTLY_F16,
              "bf16": gguf.LlamaFileType.MOSTLY_BF16,
              "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def main():
    logging.basicConfig(level=logging.WARNING)
    source, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    source = pathlib.Path(source)
    hparams = ModelBase.load_hparams(source, False)
    model_class = get_model_class(get_model_architecture(hparams,
                                                         ModelType.TEXT))
    if pre := options.get("pre"):
        model_class.get_vocab_base_pre = lambda self, tokenizer: pre
        model_class.set_vocab = lambda self: self._set_vocab_gpt2()
    with torch.inference_mode():
        model = model_class(
            source, FILE_TYPES[options["type"]], pathlib.Path(out),
            model_name=options["name"],
            split_max_tensors=options.get("split_max_tensors", 0),
            fuse_qkv=options.get("fuse_qkv", False))
        if options.get("vocab_only"):
            model.write_vocab()
        else:
            model.write()


if __name__ == "__main__":
    main()
