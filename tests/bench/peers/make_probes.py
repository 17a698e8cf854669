#!/usr/bin/env python3
"""Prompts whose first token tells the adapters apart, by Transformers + PEFT in
fp32, in the Transformers environment:

  make_probes.py BASE ADAPTERS PROBES.json SEED

BASE is a model folder, or a GGUF file: its quantised weights, dequantised, so
that an engine is held to the weights that it has. ADAPTERS has SHAPE/i of
make_models.py. Written for each shape:

  each   for each adapter a prompt that it answers unlike the others
  first  several such prompts of adapter 0, for legs with one adapter

each with the tokens of the base and of the adapter, and the smaller of their
leads over the second-best token.
"""

import json
import pathlib
import sys

import peft
import torch
from transformers import AutoModelForCausalLM

import workloads

CANDIDATES = 64
PROMPT_TOKENS = 16
SHARED = 3  # other adapters that may give the same token
OF_FIRST = 8


def load(path):
    if path.is_dir():
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32)


def first_tokens(model, prompts):
    """Top token, its lead over the second: ([n], [n])."""
    with torch.inference_mode():
        logits = model(input_ids=prompts, logits_to_keep=1).logits[:, -1]
    top = logits.topk(2, dim=-1)
    return (top.indices[:, 0].tolist(),
            (top.values[:, 0] - top.values[:, 1]).tolist())


def probes_of(i, prompts, answers, base):
    """All candidates as probes of adapter i, the best first."""
    def probe(k):
        token, lead = answers[i][0][k], answers[i][1][k]
        base_token, base_lead = base[0][k], base[1][k]
        same = sum(tokens[k] == token for tokens, _ in answers) - 1
        apart = token != base_token and same <= SHARED
        return {"prompt": prompts[k].tolist(), "base": base_token,
                "adapter": token,
                "lead": round(min(lead, base_lead), 3) if apart else -1.0}

    return sorted(map(probe, range(len(prompts))),
                  key=lambda one: one["lead"], reverse=True)


def main():
    base_path, adapters, out = map(pathlib.Path, sys.argv[1:4])
    model = load(base_path)
    draw = torch.Generator().manual_seed(int(sys.argv[4]))
    prompts = torch.randint(workloads.VOCABULARY, (CANDIDATES, PROMPT_TOKENS),
                            generator=draw)
    base = first_tokens(model, prompts)
    probes = {}
    for shape in workloads.SHAPES:
        answers = []
        for i in range(workloads.ADAPTERS):
            adapted = peft.PeftModel.from_pretrained(model,
                                                     adapters / shape / str(i))
            answers.append(first_tokens(adapted, prompts))
            model = adapted.unload()
        ranked = [probes_of(i, prompts, answers, base)
                  for i in range(workloads.ADAPTERS)]
        probes[shape] = {"each": [best[0] for best in ranked],
                         "first": ranked[0][:OF_FIRST]}
        leads = sorted(one["lead"] for one in probes[shape]["each"])
        print(f"probes of {shape} adapters: leads {leads[0]} to {leads[-1]}")
    out.write_text(json.dumps(probes) + "\n")


if __name__ == "__main__":
    main()
