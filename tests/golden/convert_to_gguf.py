#!/usr/bin/env python3
"""llama.cpp's own converter on small models: convert_to_gguf.py JSON, a list of
[source folder, file, options]. In a process of its own, because the converter
brings another version of the `gguf` package than the oracle's environment has.

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


def convert(source, out, options):
    hparams = ModelBase.load_hparams(source, False)
    model_class = get_model_class(get_model_architecture(hparams,
                                                         ModelType.TEXT))
    if pre := options.get("pre"):
        model_class = type(model_class.__name__, (model_class,), {
            "model_arch": model_class.model_arch,
            "get_vocab_base_pre": lambda self, tokenizer: pre,
            "set_vocab": lambda self: self._set_vocab_gpt2()})
    with torch.inference_mode():
        model = model_class(
            source, FILE_TYPES[options["type"]], out,
            model_name=options["name"],
            split_max_tensors=options.get("split_max_tensors", 0),
            fuse_qkv=options.get("fuse_qkv", False))
        if options.get("vocab_only"):
            model.write_vocab()
        else:
            model.write()


def main():
    logging.basicConfig(level=logging.WARNING)
    for source, out, options in json.loads(sys.argv[1]):
        convert(pathlib.Path(source), pathlib.Path(out), options)


if __name__ == "__main__":
    main()
