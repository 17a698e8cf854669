#!/usr/bin/env python3
"""Holds `descant-server --export-merged` to PEFT's merge_and_unload.

For each model a server is started, adapters are uploaded, and each is exported
while that server runs. What was written is loaded with Transformers and compared
with PEFT's merge on the same base, both in fp32: every tensor, and 32 greedy
tokens of some prompts. Of a Hugging Face base, what the adapter leaves alone
must be byte-equal, and what it changes the fp32 sum rounded once.

  check_export.py SERVER CLI [MODEL ...]   hf:tiny-llama, gguf:phi3, demo:pirate

Needs the oracle's environment (setup_oracle.sh). Exits with 1 where anything
differs.
"""

import functools
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import make_gguf_models
import make_golden
import make_models
import make_tokenizer_golden
from corpus import hard_corpus

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOKENS = 32
# fp32 sums of up to 64 products in another order, on weights near 1.
TOLERANCE = 2e-6
HUGGING_FACE = sorted(path.name for path in (HERE / "models").iterdir())
# Files that hold what their directory holds, bit for bit; the last is of block
# types, and what Transformers reads from it.
GGUF = ["llama-f32", "llama-bias", "llama-split", "llama-fused",
        "llama-rope-llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3",
        "phi3", "gpt2", "llama-mix"]
DEMO = ["pirate", "sentiment"]
REFUSED = {"phi3-longrope": "rope scaling"}

failures = []


def check(condition, what):
    if not condition:
        failures.append(what)
        print(f"  DIFFERS: {what}")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A server with adapters, and exports of them beside it."""

    def __init__(self, server, cli, model, work):
        self.server, self.cli, self.model = server, cli, model
        self.target = f"127.0.0.1:{free_port()}"
        self.store = work / "store"
        self.log = open(work / "log", "w")
        self.process = subprocess.Popen(
            [server, f"--model={model}", f"--listen={self.target}",
             "--admin-listen=none", "--metrics-listen=none", "--device=cpu",
             f"--adapter-dir={self.store}", "--weights-cache=none"],
            stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.call("models", check=False).returncode == 0:
                return
            assert self.process.poll() is None, open(work / "log").read()
            time.sleep(0.1)
        raise TimeoutError("the server does not start")

    def call(self, *arguments, check=True):
        return subprocess.run([self.cli, "--target", self.target, *arguments],
                              check=check, capture_output=True, text=True)

    def export(self, name, out, *flags):
        return subprocess.run(
            [self.server, f"--model={self.model}",
             f"--adapter-dir={self.store}", f"--export-merged={name}",
             f"--out={out}", *flags], capture_output=True, text=True)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()


def raw_tensors(folder):
    """name -> tensor as it is stored, of all shards."""
    result = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                result[key] = file.get_tensor(key)
    return result


@torch.inference_mode()
def greedy(model, prompt):
    ids, past, tokens = torch.tensor([prompt]), None, []
    for _ in range(TOKENS):
        out = model(input_ids=ids, past_key_values=past, use_cache=True)
        past = out.past_key_values
        tokens.append(int(out.logits[0, -1].argmax()))
        ids = torch.tensor([[tokens[-1]]])
    return tokens


def load(folder, **more):
    # Eager attention is the definition; others leave out logit caps.
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **more)


def compare_models(what, exported, merged, prompts, plain):
    """Tensors, then greedy tokens, of two models in fp32; `plain`: the base's
    tokens."""
    ours, theirs = exported.state_dict(), merged.state_dict()
    check(ours.keys() == theirs.keys(), f"{what}: names of tensors")
    largest = max(float((ours[key] - theirs[key]).abs().max())
                  for key in ours.keys() & theirs.keys())
    check(largest <= TOLERANCE, f"{what}: tensors by {largest:.3g}")
    equal = total = changed = 0
    for prompt, before in zip(prompts, plain):
        one, other = greedy(exported, prompt), greedy(merged, prompt)
        equal += sum(a == b for a, b in zip(one, other))
        total += len(other)
        changed += sum(a != b for a, b in zip(other, before))
    check(equal == total, f"{what}: tokens, {total - equal} of {total}")
    check(changed > 0, f"{what}: the adapter changes no token")
    print(f"  {what}: {equal} of {total} tokens equal ({changed} not the "
          f"base's), largest difference of a tensor {largest:.3g}")


def compare_files(what, base, exact, rounded):
    """The default export of a Hugging Face base against base and fp32 export."""
    before, after = raw_tensors(base), raw_tensors(rounded)
    wide = raw_tensors(exact)
    check(before.keys() == after.keys(), f"{what}: names in files")
    same = merged = 0
    for key, tensor in before.items():
        check(after[key].dtype == tensor.dtype, f"{what}: dtype of {key}")
        if torch.equal(after[key], tensor):
            same += 1
            continue
        merged += 1
        check(torch.equal(after[key], wide[key].to(tensor.dtype)),
              f"{what}: rounding of {key}")
    for path in base.iterdir():
        if ".safetensors" not in path.name:
            check((rounded / path.name).read_bytes() == path.read_bytes(),
                  f"{what}: {path.name}")
    print(f"  {what}: {same} tensors byte-equal to the base's, {merged} "
          f"rounded from fp32")


def export_both(server, name, work, what, flags=()):
    """(fp32 export, default export); None where one failed."""
    folders = []
    for dtype in ("fp32", "auto"):
        out = work / f"{name}-{dtype}"
        done = server.export(name, out, f"--export-dtype={dtype}", *flags)
        check(done.returncode == 0, f"{what}: {done.stderr.strip()}")
        if done.returncode != 0:
            return None
        folders.append(out)
    return folders


def check_random(server, base, folder, adapters, labels, work, what):
    """Random adapters of make_golden on a tiny model. `folder`: a Hugging Face
    base's own, else None."""
    prompts = make_golden.prompts(411, [3, 40, 90], 5)
    plain = [greedy(base(), prompt) for prompt in prompts]
    for label in labels:
        saved = work / f"adapter-{label}"
        merged, _ = make_golden.random_plan(label, True, adapters)(
            base(), saved, True)
        merged = merged.merge_and_unload()
        server.call("adapters", "upload", label, str(saved))
        # Small shards where the base has some too.
        flags = (["--max-shard-size=65536"]
                 if folder is not None and "sharded" in folder.name else [])
        folders = export_both(server, label, work, f"{what} {label}", flags)
        if folders is None:
            continue
        compare_models(f"{what} {label}", load(folders[0]), merged, prompts,
                       plain)
        if folder is not None:
            compare_files(f"{what} {label}", folder, *folders)
        if flags:
            shards = len(list(folders[0].glob("model-*.safetensors")))
            check(shards > 1, f"{what}: shards")
            print(f"  {what}: in {shards} shards")


def family_of(model):
    if model in make_models.FAMILIES:
        return make_golden.family_adapters(make_models.FAMILIES[model][0])
    return make_golden.RANDOM


def labels_of(adapters):
    """Patterns, rsLoRA on all modules, rank 64 on all modules."""
    if adapters is make_golden.RANDOM:
        return ["patterns", "rslora", "rank64-all"]
    return [label for label in adapters if label[:3] in ("a03", "a07", "a15")]


def check_hugging_face(binaries, name, work):
    folder = HERE / "models" / name
    adapters = family_of(name)
    server = Server(*binaries, folder, work)
    try:
        check_random(server, lambda: load(folder), folder, adapters,
                     labels_of(adapters), work, name)
    finally:
        server.stop()


def check_gguf(binaries, name, work):
    path = HERE / "gguf" / f"{name}.gguf"
    if not path.exists():
        path = min((HERE / "gguf").glob(f"{name}-00001-of-*.gguf"))
    model = make_gguf_models.MODELS[name][0]
    if name == "llama-mix":
        base = lambda: load(path.parent, gguf_file=path.name)
    else:
        make_gguf_models.prepare(name, work / "base")
        base = lambda: load(work / "base")
    adapters = family_of(model)
    server = Server(*binaries, path, work)
    try:
        check_random(server, base, None, adapters, labels_of(adapters)[:2],
                     work, path.name)
    finally:
        server.stop()


def check_refused(binaries, name, message, work):
    path = HERE / "gguf" / f"{name}.gguf"
    adapters = family_of(make_gguf_models.MODELS[name][0])
    label = labels_of(adapters)[0]
    make_gguf_models.prepare(name, work / "base")
    make_golden.random_plan(label, True, adapters)(
        load(work / "base"), work / "adapter", True)
    server = Server(*binaries, path, work)
    try:
        server.call("adapters", "upload", label, str(work / "adapter"))
        done = server.export(label, work / "out")
        check(done.returncode == 78 and message in done.stderr,
              f"{name}: must be refused: {done.stderr}")
        check(not (work / "out").exists(), f"{name}: a directory is left")
        print(f"  {name}: refused: {done.stderr.strip()}")
    finally:
        server.stop()


@functools.cache
def demo_base():
    return make_golden.MODELS / make_golden.GGUF


def check_tokenizer(what, folder):
    ours = AutoTokenizer.from_pretrained(folder)
    theirs = make_tokenizer_golden.smollm2()
    texts = hard_corpus()
    differing = sum(ours(text)["input_ids"] != theirs.encode(text).ids
                    for text in texts)
    check(differing == 0, f"{what}: tokens of {differing} texts")
    turns = ours.apply_chat_template([{"role": "user", "content": "Hi"}],
                                     tokenize=False)
    check("<|im_start|>user\nHi<|im_end|>" in turns, f"{what}: chat template")
    print(f"  {what}: {len(texts) - differing} of {len(texts)} texts have the "
          f"same tokens")


def check_demo(binaries, name, work):
    path = demo_base()
    base = lambda: load(path.parent, gguf_file=path.name)
    saved = ROOT / "deploy" / "demo" / "adapters" / name
    tokenizer = make_tokenizer_golden.smollm2()
    prompts = [tokenizer.encode(text).ids
               for text in make_golden.held_out(name, 2)]
    server = Server(*binaries, path, work)
    try:
        server.call("adapters", "upload", name, str(saved))
        out = work / "out"
        began = time.monotonic()
        done = server.export(name, out)
        check(done.returncode == 0, f"demo: {done.stderr}")
        print(f"  demo {name}: {done.stdout.strip()} "
              f"({time.monotonic() - began:.1f} s)")
        plain_model = base()
        plain = [greedy(plain_model, prompt) for prompt in prompts]
        merged = PeftModel.from_pretrained(plain_model, saved)
        compare_models(f"demo {name}", load(out), merged.merge_and_unload(),
                       prompts, plain)
        check_tokenizer(f"demo {name}", out)
    finally:
        server.stop()


def main():
    binaries, asked = sys.argv[1:3], sys.argv[3:]
    jobs = [(f"hf:{name}", check_hugging_face, name) for name in HUGGING_FACE]
    jobs += [(f"gguf:{name}", check_gguf, name) for name in GGUF]
    jobs += [(f"gguf:{name}", functools.partial(check_refused,
                                                message=message), name)
             for name, message in REFUSED.items()]
    jobs += [(f"demo:{name}", check_demo, name) for name in DEMO]
    for label, job, name in jobs:
        if asked and label not in asked:
            continue
        print(label, flush=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix="descant-export-"))
        try:
            job(binaries, name, work=work)
        finally:
            shutil.rmtree(work)
    print(json.dumps({"failures": failures}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
