#!/usr/bin/env python3
"""The base model and the adapters in llama.cpp's format, by its own tools:
bf16, Q8_0 and Q4_0; adapters in bf16 as they came.

  convert_llamacpp.py LLAMACPP MODELS    (folder of setup_llamacpp.sh, models)
"""

import contextlib
import os
import pathlib
import runpy
import subprocess
import sys

LLAMACPP, MODELS = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
SOURCE = LLAMACPP / "source"
OUT = MODELS / "llamacpp"
sys.path[:0] = [str(SOURCE / "gguf-py"), str(SOURCE)]


def convert(script, *arguments):
    """In this process: the imports take longer than the work."""
    sys.argv = [script, *map(str, arguments)]
    runpy.run_path(str(SOURCE / script), run_name="__main__")


def once(target, newer_than, make):
    if (target.exists()
            and target.stat().st_mtime >= newer_than.stat().st_mtime):
        return
    part = target.with_suffix(".part")
    make(part)
    os.replace(part, target)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    base = OUT / "bf16.gguf"
    log = (OUT / "convert.log").open("a")
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        once(base, MODELS / "hf" / "model.safetensors", lambda part: convert(
            "convert_hf_to_gguf.py", MODELS / "hf", "--outtype", "bf16",
            "--outfile", part))
        for kind in ("Q8_0", "Q4_0"):
            once(OUT / f"{kind}.gguf", base, lambda part: subprocess.run(
                [LLAMACPP / "build/bin/llama-quantize", base, part, kind],
                check=True, stdout=log, stderr=log))
        for weights in sorted(MODELS.glob("adapters/*/*/*.safetensors")):
            folder = weights.parent
            name = f"{folder.parent.name}-{folder.name}.gguf"
            once(OUT / name, weights, lambda part: convert(
                "convert_lora_to_gguf.py", folder, "--base", MODELS / "hf",
                "--outtype", "bf16", "--outfile", part))


if __name__ == "__main__":
    main()
