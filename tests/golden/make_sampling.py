#!/usr/bin/env python3
"""Writes data/sampling.json: what Transformers' own logits processors and
warpers make of random logits and histories, and greedy answers of the tiny
Llama under them. Frequency and presence penalty, which Transformers does not
have, follow OpenAI's formula.

  make_sampling.py
"""

import importlib.metadata
import json
import pathlib

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.generation import logits_process as hf

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "models" / "tiny-llama"
VOCAB, EOS = 211, [3, 7]


class SplitMix64:
    """Steele, Lea, Flood 2014; the C++ test has its twin."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)


def random_logits(random, scale):
    # Sums of four multiples of 2^-20: exact in float32.
    sums = [sum(random.next() >> 44 for _ in range(4)) for _ in range(VOCAB)]
    return (np.array(sums, np.float32) * np.float32(2.0**-20)
            - np.float32(2)) * np.float32(scale)


def process(case, logits, history):
    ids, scores = torch.tensor([history]), torch.tensor(logits)[None]
    options, chain = case["options"], []
    bias = {(t,): float(b) for t, b in options.get("logit_bias", [])}
    if bias:
        chain.append(hf.SequenceBiasLogitsProcessor(bias))
    if "repetition_penalty" in options:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(
            options["repetition_penalty"]))
    for processor in chain:
        scores = processor(ids, scores)
    answer = history[case["prompt"]:]
    for token in set(answer):
        scores[0, token] -= (answer.count(token)
                             * options.get("frequency_penalty", 0.0)
                             + options.get("presence_penalty", 0.0))
    if "min_tokens" in options:
        scores = hf.MinNewTokensLengthLogitsProcessor(
            case["prompt"], options["min_tokens"], EOS)(ids, scores)
    argmax, warpers = int(scores.argmax()), []
    if options.get("temperature", 1.0) != 1.0:
        warpers.append(hf.TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        warpers.append(hf.TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        warpers.append(hf.TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        warpers.append(hf.MinPLogitsWarper(options["min_p"]))
    if "typical_p" in options:
        warpers.append(hf.TypicalLogitsWarper(mass=options["typical_p"]))
    for warper in warpers:
        scores = warper(ids, scores)
    return argmax, torch.softmax(scores.double(), -1)[0]


OPTIONS = [
    {}, {"repetition_penalty": 1.3}, {"repetition_penalty": 0.7},
    {"repetition_penalty": 100.0}, {"presence_penalty": 1.5},
    {"frequency_penalty": 0.8}, {"presence_penalty": -2.0},
    {"frequency_penalty": -1.0, "presence_penalty": 2.0},
    {"repetition_penalty": 1.2, "presence_penalty": 0.5,
     "frequency_penalty": 0.5},
    {"logit_bias": [[5, 4.5], [17, -3.0], [100, 100.0]]},
    {"logit_bias": [[0, "-inf"], [210, "-inf"], [50, 2.0]]},
    {"logit_bias": [[9, 20.0]], "repetition_penalty": 1.5},
    {"min_tokens": 100}, {"min_tokens": 1},
    {"min_tokens": 100, "logit_bias": [[3, 50.0]]},
    {"typical_p": 0.2}, {"typical_p": 0.5}, {"typical_p": 0.9},
    {"typical_p": 0.99}, {"typical_p": 1e-6},
    {"typical_p": 0.5, "temperature": 0.5},
    {"typical_p": 0.7, "temperature": 2.0, "top_k": 40},
    {"typical_p": 0.6, "top_p": 0.8}, {"typical_p": 0.6, "min_p": 0.05},
    {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "min_p": 0.02,
     "typical_p": 0.8, "repetition_penalty": 1.1,
     "presence_penalty": 0.3, "logit_bias": [[1, 3.0], [2, -1.0]]},
    {"temperature": 1.7, "repetition_penalty": 1.8, "top_p": 0.7},
    {"temperature": 0.1, "frequency_penalty": 2.0, "min_p": 0.3},
]


def make_cases():
    cases = []
    for i, options in enumerate(OPTIONS):
        for scale in (1.0, 6.0):
            seed = 1000 * i + int(scale)
            random = SplitMix64(seed)
            prompt, answer = random.next() % 30 + 1, random.next() % 60
            case = {"seed": seed, "scale": scale, "prompt": prompt,
                    "answer": answer, "options": options}
            logits = random_logits(random, scale)
            history = [random.next() % (VOCAB // 4)
                       for _ in range(prompt + answer)]
            case["argmax"], probabilities = process(case, logits, history)
            case["kept"] = [[t, float(f"{p:.6g}")]
                            for t, p in enumerate(probabilities.tolist())
                            if p > 1e-9]
            cases.append(case)
    return cases


@torch.inference_mode()
def make_answers():
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    random, answers = SplitMix64(7), []
    prompt = [random.next() % 480 + 20 for _ in range(45)]
    ids = torch.tensor([prompt])
    logits = torch.log_softmax(model(ids).logits[0].double(), -1)
    scores = [round(float(logits[i, t]), 5) for i, t in enumerate(prompt[1:])]

    def answer(**options):
        names = {"min_tokens": "min_new_tokens",
                 "stop_token_ids": "eos_token_id"}
        given = {names.get(k, k): v for k, v in options.items()}
        if "logit_bias" in given:
            given["sequence_bias"] = {
                (t,): float(b) for t, b in given.pop("logit_bias")}
        out = model.generate(ids, do_sample=False, max_new_tokens=40,
                             pad_token_id=0, **given)
        answers.append({"options": options,
                        "tokens": out[0, len(prompt):].tolist()})
        return answers[-1]["tokens"]

    plain = answer()
    answer(repetition_penalty=1.3)
    answer(repetition_penalty=0.8)
    answer(logit_bias=[[plain[0], -1.0], [plain[1], "-inf"], [77, 1.5]])
    stop = [plain[2]]
    answer(stop_token_ids=stop)
    answer(stop_token_ids=stop, min_tokens=12)
    answer(stop_token_ids=stop, min_tokens=12, repetition_penalty=1.2,
           logit_bias=[[plain[5], -2.0]])
    return {"prompt": prompt, "prompt_logprobs": scores, "answers": answers}


def main():
    data = {"made_with": {name: importlib.metadata.version(name)
                          for name in ("torch", "transformers")},
            "vocab": VOCAB, "eos": EOS, "cases": make_cases(),
            "tiny_llama": make_answers()}
    (HERE / "data" / "sampling.json").write_text(
        json.dumps(data, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
