#!/usr/bin/env python3
"""Writes data/tiny_*.json, data/demo_*.json and data/yardstick*.json.

The oracle is Transformers + PEFT in fp32: greedy tokens (end of sequence
ignored), the top-5 log-probabilities and the gap between the two likeliest at
every position. The yardstick is the same library in bf16, teacher-forced on
the oracle's tokens: the error that the field accepts. It is taken twice: as
PEFT loads adapters by default (their weights widened to fp32 beside the bf16
base), and with the adapter in bf16 too. Beside them stands what leaving the
adapter out costs in fp32: the tests could not tell without a distance.

  make_golden.py [tokenizers] [models] [tiny] [families] [demo]  all by default
"""

import copy
import functools
import importlib.metadata
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

import make_models
import make_tokenizer_golden
import random_adapter

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = ROOT / ".deps" / "models"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS, TOP, VOCABULARY = 32, 5, 49152
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
              "down_proj"]
QUERY_VALUE = ["q_proj", "v_proj"]

# name: (seed, LoraConfig arguments, dtype, (std of A, of B) on the demo model,
# the same on the tiny ones). The deviations are such that leaving an adapter
# out, or taking another one, costs far more than bf16 does: with 0.02 and 0.01
# it would not show.
RANDOM = {
    "rank1": (101, dict(r=1, lora_alpha=4, target_modules=QUERY_VALUE),
              "bf16", (0.05, 0.05), (0.1, 0.1)),
    "rank8": (102, dict(r=8, lora_alpha=16, target_modules=QUERY_VALUE),
              "bf16", (0.05, 0.05), (0.1, 0.1)),
    "rank64-all": (103, dict(r=64, lora_alpha=32, target_modules=ALL_LINEAR),
                   "bf16", (0.05, 0.04), (0.1, 0.1)),
    "patterns": (104, dict(
        r=4, lora_alpha=8, target_modules=ALL_LINEAR,
        rank_pattern={"q_proj": 16, "layers.1.mlp.down_proj": 3},
        alpha_pattern={"v_proj": 24, "layers.0.self_attn.q_proj": 2}),
        "f32", (0.03, 0.02), (0.1, 0.05)),
    "rslora": (105, dict(r=16, lora_alpha=16, use_rslora=True,
                         target_modules="all-linear"),
               "f16", (0.02, 0.02), (0.05, 0.05)),
    "regex": (106, dict(
        r=8, lora_alpha=16,
        target_modules=r".*\.(self_attn\.(k|o)_proj|mlp\.up_proj)"),
        "bf16", (0.05, 0.03), (0.1, 0.1)),
    "one-layer": (107, dict(r=8, lora_alpha=32, target_modules=ALL_LINEAR,
                            layers_to_transform=[1]),
                  "bf16", (0.05, 0.05), (0.1, 0.1)),
}
VERSIONS = {name: importlib.metadata.version(name)
            for name in ("torch", "transformers", "peft")}
DEMO_ADAPTERS = ["json-extract", "pirate", "sentiment", "text-to-sql"]
NATURAL = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived a",
    "def fibonacci(n):\n    \"\"\"Return the n-th number.\"\"\"\n    if n <",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]


@torch.inference_mode()
def oracle(model, prompt):
    ids, past, tokens, tops, gaps = torch.tensor([prompt]), None, [], [], []
    for _ in range(TOKENS):
        out = model(input_ids=ids, past_key_values=past, use_cache=True)
        past = out.past_key_values
        logprobs = torch.log_softmax(out.logits[0, -1].float(), -1)
        top = torch.topk(logprobs, TOP)
        tokens.append(int(top.indices[0]))
        tops.append([[int(i), round(float(v), 5)]
                     for i, v in zip(top.indices, top.values)])
        gaps.append(round(float(top.values[0] - top.values[1]), 5))
        ids = torch.tensor([[tokens[-1]]])
    return tokens, tops, gaps


@torch.inference_mode()
def teacher_forced(model, case):
    """(errors over the oracle's top-5, oracle's gaps where the argmax is
    another one)."""
    sequence = case["prompt_ids"] + case["tokens"][:-1]
    logits = model(input_ids=torch.tensor([sequence]),
                   logits_to_keep=TOKENS).logits[0].float()
    logprobs = torch.log_softmax(logits, -1)
    errors = [abs(float(logprobs[i, token]) - value)
              for i, top in enumerate(case["top"]) for token, value in top]
    flips = [gap for i, gap in enumerate(case["gaps"])
             if int(logprobs[i].argmax()) != case["tokens"][i]]
    return errors, flips


class Yardstick:
    """Errors of bf16 by adapter."""

    def __init__(self):
        self.errors, self.flips = {}, {}

    def add(self, label, model, cases):
        for case in cases:
            errors, flips = teacher_forced(model, case)
            self.errors.setdefault(label, []).extend(errors)
            self.flips.setdefault(label, []).extend(flips)

    def figures(self):
        def of(labels):
            errors = np.concatenate([self.errors[k] for k in labels])
            flips = sum((self.flips[k] for k in labels), [])
            return {"p50": round(float(np.percentile(errors, 50)), 5),
                    "p99": round(float(np.percentile(errors, 99)), 5),
                    "max": round(float(np.max(errors)), 5),
                    "count": len(errors), "positions": len(errors) // TOP,
                    "flips": len(flips), "max_flip_gap": max(flips, default=0)}
        return {"all": of(list(self.errors)),
                "by_adapter": {k or "base": of([k]) for k in self.errors}}


def prompts(vocab, lengths, seed):
    rng = np.random.default_rng(seed)
    return [[int(t) for t in rng.integers(20, vocab, size=n)] for n in lengths]


def lora_tensors(folder):
    from safetensors import safe_open
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return [[key, list(file.get_slice(key).get_shape())]
                for key in file.keys()]


def run(load, plan, yardsticks):
    """plan: list of (label, make(model, folder, widen) -> (model,
    description), prompts). Returns [(description, cases)]; fills the three
    `yardsticks`: bf16 with the adapter widened, bf16 with the adapter in bf16,
    fp32 without the adapter."""
    groups, plain = [], load(torch.float32)
    for label, make, prompt_list in plan:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            model, description = make(load(torch.float32), folder, True)
            cases = []
            for prompt in prompt_list:
                tokens, tops, gaps = oracle(model, prompt)
                cases.append({"adapter": label, "prompt_ids": prompt,
                              "tokens": tokens, "top": tops, "gaps": gaps})
                # One token at a time or all at once: the same, or the
                # oracle is none.
                errors, _ = teacher_forced(model, cases[-1])
                assert max(errors) < 2e-3, (label, max(errors))
            for yardstick, widen in zip(yardsticks, (True, False)):
                model, _ = make(load(torch.bfloat16), folder, widen)
                yardstick.add(label, model, cases)
            if label:
                yardsticks[2].add(label, plain, cases)
        groups.append((description, cases))
        print(label or "base", len(cases), "prompts", flush=True)
    return groups


def base(model, folder, widen):
    return model, {"name": "", "kind": "base"}


def random_plan(name, tiny, adapters=RANDOM):
    seed, options, dtype, *deviations = adapters[name]
    std_a, std_b = deviations[tiny]

    def make(model, folder, widen):
        peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM",
                                                **options))
        config = random_adapter.write(folder, peft, seed, dtype,
                                      {"lora_A": std_a, "lora_B": std_b})
        bare = peft.unload()
        loaded = PeftModel.from_pretrained(bare, folder,
                                           autocast_adapter_dtype=widen)
        return loaded, {"name": name, "kind": "random", "seed": seed,
                        "dtype": dtype, "std_a": std_a, "std_b": std_b,
                        "config": config, "tensors": lora_tensors(folder)}
    return make


def demo_plan(name):
    def make(model, folder, widen):
        saved = ROOT / "deploy" / "demo" / "adapters" / name
        return PeftModel.from_pretrained(
            model, saved, autocast_adapter_dtype=widen), {
                "name": name, "kind": "demo"}
    return make


def write(path, model, groups):
    path.write_text(json.dumps({
        "model": model, "made_with": VERSIONS,
        "adapters": [description for description, _ in groups],
        "cases": [case for _, group in groups for case in group],
    }, separators=(",", ":")) + "\n")
    assert path.stat().st_size < 2_000_000, path


def write_yardstick(name, what, yardsticks):
    widened, narrow, without = (y.figures() for y in yardsticks)
    (HERE / "data" / name).write_text(json.dumps({
        "what": "absolute log-probability error of Transformers + PEFT in "
                "bf16 over the fp32 oracle's top-5, teacher-forced on "
                + what, "made_with": VERSIONS,
        **widened, "adapter_in_bf16": narrow,
        "adapter_left_out": without}, indent=1) + "\n")
    print(name, widened["all"], narrow["all"], without["by_adapter"])


def make_tiny():
    yardsticks = Yardstick(), Yardstick(), Yardstick()
    for folder in sorted(HERE / "models" / name
                         for name in make_models.VARIANTS):
        load = lambda dtype: AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype)
        lengths = [1, 2, 31, 32, 33, 100, 200]
        names = (list(RANDOM) if folder.name == "tiny-llama"
                 else ["rank8", "rslora"])
        plan = [("", base, prompts(512, lengths, 1))]
        plan += [(name, random_plan(name, True), prompts(512, [1, 40, 130], i))
                 for i, name in enumerate(RANDOM) if name in names]
        write(HERE / "data" / f"{folder.name.replace('-', '_')}.json",
              folder.name, run(load, plan, yardsticks))
    write_yardstick("yardstick_tiny.json", "tiny_*.json", yardsticks)


# Linear modules by family: (the pair adapters usually target, all, one that
# patterns single out, a regular expression for some of them).
SPLIT = (QUERY_VALUE, ALL_LINEAR, "q_proj",
         r".*\.(self_attn\.(k|o)_proj|mlp\.up_proj)")
MODULES = {
    "Phi3": (["qkv_proj"], ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
             "qkv_proj", r".*\.(self_attn\.o_proj|mlp\.gate_up_proj)"),
    "GPT2": (["c_attn"], ["c_attn", "c_proj", "c_fc"], "c_attn",
             r".*\.h\.[01]\.(attn\.c_proj|mlp\.c_fc)"),
}


def family_adapters(kind):
    """16 adapters: name -> what RANDOM holds, with the tiny deviations."""
    usual, every, one, regex = MODULES.get(kind, SPLIT)
    last = "mlp.c_proj" if kind == "GPT2" else "down_proj"
    layers = "h" if kind == "GPT2" else "layers"
    # (rank, alpha, modules, further arguments, dtype)
    rows = [
        (1, 4, usual, {}, "bf16"),
        (2, 4, every, {}, "bf16"),
        (3, 6, [one], {}, "f32"),
        (4, 8, every, dict(rank_pattern={one: 16, f"{layers}.1.{last}"
                                         if kind == "GPT2" else
                                         f"{layers}.1.mlp.{last}": 3},
                           alpha_pattern={last: 12, one: 24}), "f32"),
        (6, 12, regex, {}, "bf16"),
        (8, 16, usual, {}, "bf16"),
        (8, 16, every, dict(layers_to_transform=[1]), "bf16"),
        (12, 12, "all-linear", dict(use_rslora=True), "f16"),
        (16, 16, every, dict(layers_to_transform=[0], layers_pattern=layers),
         "f16"),
        (16, 32, every, dict(exclude_modules=[last]), "bf16"),
        (24, 24, [last], {}, "bf16"),
        (32, 8, usual, dict(use_rslora=True), "f32"),
        (32, 16, every, {}, "bf16"),
        (48, 24, [one, last], {}, "bf16"),
        (64, 64, usual, {}, "bf16"),
        (64, 32, "all-linear", {}, "bf16"),
    ]
    return {f"a{i:02}-r{rank}": (
        201 + i, dict(r=rank, lora_alpha=alpha, target_modules=modules,
                      fan_in_fan_out=kind == "GPT2" and i % 2 == 0, **more),
        dtype, (0.1, 0.1), (0.1, 0.05 if rank > 8 else 0.1))
        for i, (rank, alpha, modules, more, dtype) in enumerate(rows)}


def make_families():
    figures = {}
    for name, (kind, _) in make_models.FAMILIES.items():
        # Eager attention is the definition; others leave out logit caps.
        load = lambda dtype: AutoModelForCausalLM.from_pretrained(
            HERE / "models" / name, dtype=dtype, attn_implementation="eager")
        adapters = family_adapters(kind)
        # Ids that the tokenizer has: the server takes no others.
        plan = [("", base, prompts(411, [1, 2, 31, 33, 100, 200], 1))]
        plan += [(label, random_plan(label, True, adapters),
                  prompts(411, [3 + i, 60 + 8 * i], 20 + i))
                 for i, label in enumerate(adapters)]
        yardsticks = Yardstick(), Yardstick(), Yardstick()
        stem = name.replace("-", "_")
        write(HERE / "data" / f"{stem}.json", name,
              run(load, plan, yardsticks))
        figures[stem] = {
            "all": yardsticks[0].figures()["all"],
            "adapter_in_bf16": yardsticks[1].figures()["all"],
            "adapter_left_out": yardsticks[2].figures()["by_adapter"]}
        print(stem, figures[stem]["all"], yardsticks[2].figures()["all"])
    (HERE / "data" / "yardstick_families.json").write_text(json.dumps({
        "what": "as yardstick_tiny.json, for each other family's file",
        "made_with": VERSIONS, "by_file": figures}, indent=1) + "\n")


def held_out(name, count):
    path = ROOT / "deploy" / "demo" / "data" / f"{name}.held_out.jsonl"
    return [json.loads(line)["prompt"]
            for line in path.read_text().splitlines()[:count]]


def make_demo():
    once = functools.cache(lambda dtype: AutoModelForCausalLM.from_pretrained(
        MODELS, gguf_file=GGUF, dtype=dtype))
    load = lambda dtype: copy.deepcopy(once(dtype))
    tokenizer = make_tokenizer_golden.smollm2()
    encode = lambda text: tokenizer.encode(text).ids
    natural = [encode(text) for text in NATURAL]
    yardsticks = Yardstick(), Yardstick(), Yardstick()
    plans = {
        "demo_base": [("", base, natural + prompts(
            VOCABULARY, [1, 2, 17, 64, 129, 300, 700], 3))],
        "demo_trained": [
            (name, demo_plan(name),
             [encode(text) for text in held_out(name, 6)]
             + prompts(VOCABULARY, [33, 150], 4)) for name in DEMO_ADAPTERS],
        "demo_random": [
            (name, random_plan(name, False), natural[:3] + prompts(
                VOCABULARY, [1, 9, 40, 130, longest], 50 + i))
            for i, (name, longest) in enumerate(zip(
                RANDOM, [257, 700, 512, 300, 600, 256, 290]))],
    }
    for name, plan in plans.items():
        write(HERE / "data" / f"{name}.json", "demo",
              run(load, plan, yardsticks))
    write_yardstick("yardstick.json", "demo_*.json", yardsticks)


def make_random_values():
    """Known values for the C++ twin."""
    cases = []
    for seed in (0, 1, 102, 2**64 - 1):
        for kind, std in random_adapter.STD.items():
            name = ("base_model.model.model.layers.3.self_attn.q_proj."
                    f"{kind}.weight")
            values = random_adapter.values(name, seed, 8, std)
            bf16 = torch.from_numpy(values).to(torch.bfloat16)
            cases.append({
                "name": name, "seed": seed, "std": std,
                "float32_bits": [int(v) for v in values.view(np.uint32)],
                "bfloat16_bits": [int(v) & 0xFFFF for v in
                                  bf16.view(torch.int16)]})
    (HERE / "data" / "random_adapter.json").write_text(
        json.dumps(cases, indent=0) + "\n")


def main():
    parts = {"tokenizers": [make_tokenizer_golden.main],
             "models": [make_models.main],
             "tiny": [make_random_values, make_tiny],
             "families": [make_families], "demo": [make_demo]}
    chosen = sys.argv[1:] or list(parts)
    if not set(chosen) <= set(parts):
        sys.exit(f"make_golden: choose from {', '.join(parts)}")
    for name in chosen:
        for make in parts[name]:
            make()


if __name__ == "__main__":
    main()
