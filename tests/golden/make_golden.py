#!/usr/bin/env python3
"""Writes data/tiny_*.json, data/demo_*.json and data/yardstick.json.

The oracle is Transformers + PEFT in fp32: greedy tokens (end of sequence
ignored), the top-5 log-probabilities and the gap between the two likeliest at
every position. The yardstick is the same library in bf16, teacher-forced on
the oracle's tokens: the error that the field accepts.

  make_golden.py tiny|demo
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import random_adapter

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = ROOT / ".deps" / "models"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS, TOP = 32, 5
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
              "down_proj"]
QUERY_VALUE = ["q_proj", "v_proj"]

# name: (seed, LoraConfig arguments, dtype)
RANDOM = {
    "rank1": (101, dict(r=1, lora_alpha=4, target_modules=QUERY_VALUE), "bf16"),
    "rank8": (102, dict(r=8, lora_alpha=16, target_modules=QUERY_VALUE),
              "bf16"),
    "rank64-all": (103, dict(r=64, lora_alpha=32, target_modules=ALL_LINEAR),
                   "bf16"),
    "patterns": (104, dict(
        r=4, lora_alpha=8, target_modules=ALL_LINEAR,
        rank_pattern={"q_proj": 16, "layers.1.mlp.down_proj": 3},
        alpha_pattern={"v_proj": 24, "layers.0.self_attn.q_proj": 2}), "f32"),
    "rslora": (105, dict(r=16, lora_alpha=16, use_rslora=True,
                         target_modules="all-linear"), "f16"),
    "regex": (106, dict(
        r=8, lora_alpha=16,
        target_modules=r".*\.(self_attn\.(k|o)_proj|mlp\.up_proj)"), "bf16"),
    "one-layer": (107, dict(r=8, lora_alpha=32, target_modules=ALL_LINEAR,
                            layers_to_transform=[1]), "bf16"),
}
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
def teacher_forced_errors(model, case):
    sequence = case["prompt_ids"] + case["tokens"][:-1]
    logits = model(input_ids=torch.tensor([sequence])).logits[0]
    logits = logits[len(case["prompt_ids"]) - 1:].float()
    logprobs = torch.log_softmax(logits, -1)
    return [abs(float(logprobs[i, token]) - value)
            for i, top in enumerate(case["top"]) for token, value in top]


def prompts(vocab, lengths, seed):
    rng = np.random.default_rng(seed)
    return [[int(t) for t in rng.integers(20, vocab, size=n)] for n in lengths]


def lora_tensors(folder):
    from safetensors import safe_open
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return [[key, list(file.get_slice(key).get_shape())]
                for key in file.keys()]


def run(load, vocab, plan, yardstick):
    """plan: list of (label, make(model, folder) -> (peft, description),
    prompts). Returns the cases; fills `yardstick` with errors."""
    cases = []
    for label, make, prompt_list in plan:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            model, description = make(load(torch.float32), folder)
            group = []
            for prompt in prompt_list:
                tokens, tops, gaps = oracle(model, prompt)
                group.append({"adapter": label, "prompt_ids": prompt,
                              "tokens": tokens, "top": tops, "gaps": gaps})
            if yardstick is not None:
                model = model.to(torch.bfloat16)
                for case in group:
                    yardstick.setdefault(label, []).extend(
                        teacher_forced_errors(model, case))
        cases.append((description, group))
        print(label, len(group), "prompts", flush=True)
    return cases


def base(model, folder):
    return model, {"name": "", "kind": "base"}


def random_plan(name):
    seed, options, dtype = RANDOM[name]

    def make(model, folder):
        peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM",
                                                **options))
        config = random_adapter.write(folder, peft, seed, dtype)
        bare = peft.unload()
        loaded = PeftModel.from_pretrained(bare, folder)
        return loaded, {"name": name, "kind": "random", "seed": seed,
                        "dtype": dtype, "config": config,
                        "tensors": lora_tensors(folder)}
    return make


def demo_plan(name):
    def make(model, folder):
        saved = ROOT / "deploy" / "demo" / "adapters" / name
        return PeftModel.from_pretrained(model, saved), {
            "name": name, "kind": "demo"}
    return make


def write(path, model, groups):
    path.write_text(json.dumps({
        "model": model,
        "adapters": [description for description, _ in groups],
        "cases": [case for _, group in groups for case in group],
    }, separators=(",", ":")) + "\n")
    assert path.stat().st_size < 2_000_000, path


def make_tiny():
    for folder in sorted((HERE / "models").iterdir()):
        load = lambda dtype: AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype)
        lengths = [1, 2, 31, 32, 33, 100, 200]
        plan = [("", base, prompts(512, lengths, 1))]
        if folder.name == "tiny-llama":
            plan += [(name, random_plan(name), prompts(512, [1, 40, 130], i))
                     for i, name in enumerate(RANDOM)]
        write(HERE / "data" / f"{folder.name.replace('-', '_')}.json",
              folder.name, run(load, 512, plan, None))


def make_demo():
    load = lambda dtype: AutoModelForCausalLM.from_pretrained(
        MODELS, gguf_file=GGUF, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(MODELS, gguf_file=GGUF)
    natural = [tokenizer(text)["input_ids"] for text in NATURAL]
    yardstick = {}
    plans = {
        "demo_base": [("", base, natural + prompts(
            49152, [1, 2, 17, 64, 129, 300, 700], 3))],
        "demo_trained": [(name, demo_plan(name), [
            tokenizer(json.loads(line)["prompt"])["input_ids"] for line in
            (ROOT / "deploy" / "demo" / "data" / f"{name}.held_out.jsonl")
            .read_text().splitlines()[:6]] + prompts(49152, [33, 150], 4))
            for name in DEMO_ADAPTERS],
        "demo_random": [(name, random_plan(name), natural[:2] + prompts(
            49152, [1, 9, 40, 130, 260], 50 + i))
            for i, name in enumerate(RANDOM)],
    }
    for name, plan in plans.items():
        write(HERE / "data" / f"{name}.json", "demo",
              run(load, 49152, plan, yardstick))
    everything = np.array([e for errors in yardstick.values() for e in errors])
    figures = lambda e: {"p50": float(np.percentile(e, 50)),
                         "p99": float(np.percentile(e, 99)),
                         "max": float(np.max(e)), "count": int(len(e))}
    (HERE / "data" / "yardstick.json").write_text(json.dumps({
        "what": "abs. log-probability error of Transformers + PEFT in bf16 "
                "over the fp32 oracle's top-5, teacher-forced",
        "all": figures(everything),
        "by_adapter": {k or "base": figures(np.array(v))
                       for k, v in yardstick.items()}}, indent=1) + "\n")
    print(figures(everything))


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
    torch.set_num_threads(2)
    what = sys.argv[1:] or ["tiny", "demo"]
    if "tiny" in what:
        make_random_values()
        make_tiny()
    if "demo" in what:
        make_demo()


if __name__ == "__main__":
    main()
