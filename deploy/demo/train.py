#!/usr/bin/env python3
"""Trains the demo adapters with PEFT on CPU and measures them.

  tests/golden/setup_oracle.sh
  .deps/oracle-venv/bin/python deploy/demo/train.py [NAME ...]
  .deps/oracle-venv/bin/python deploy/demo/train.py --measure [NAME ...]
  .deps/oracle-venv/bin/python deploy/demo/train.py --few-shot 4 [NAME ...]

--data DIR has NAME.train.jsonl and NAME.held_out.jsonl, lines of {"prompt",
"answer"}; a NAME that is not a demo adapter's is trained as `sentiment` is, in
160 steps or --steps. Training writes NAME under --out (deploy/demo/adapters);
--measure loads the saved files in a fresh process and prints the accuracy on the held-out set, base and adapter:
  exact   the whole answer, to the letter
  meant   its first line says the same: JSON with equal fields, the same label,
          SQL or sentence whatever the case, spaces and final punctuation
--few-shot measures the base alone, given that many training items first.
"""

import argparse
import json
import os
import pathlib
import re
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parents[1] / ".deps" / "models"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Rank 8 on the query and value projections is the LoRA paper's advice.
QUERY_VALUE = ["q_proj", "v_proj"]
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
              "down_proj"]
RECIPES = {
    "sentiment": dict(r=8, target_modules=QUERY_VALUE, steps=60, lr=3e-3),
    "json-extract": dict(r=8, target_modules=QUERY_VALUE, steps=160, lr=3e-3),
    "text-to-sql": dict(r=8, target_modules=QUERY_VALUE, steps=160, lr=3e-3),
    "pirate": dict(r=2, target_modules=ALL_LINEAR, steps=160, lr=3e-3),
}
OWN = dict(r=8, target_modules=QUERY_VALUE, steps=160, lr=3e-3)
BATCH = 8


def load_base():
    tokenizer = AutoTokenizer.from_pretrained(MODELS, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(
        MODELS, gguf_file=GGUF, dtype=torch.float32)
    return tokenizer, model


def read(name, split):
    with (args.data / f"{name}.{split}.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def end_token(tokenizer):
    return tokenizer.convert_tokens_to_ids("<|im_end|>")


def make_batch(tokenizer, items):
    end = end_token(tokenizer)
    rows = []
    for item in items:
        prompt = tokenizer(item["prompt"])["input_ids"]
        answer = tokenizer(item["answer"])["input_ids"] + [end]
        rows.append((prompt + answer, [-100] * len(prompt) + answer))
    width = max(len(tokens) for tokens, _ in rows)
    pad = lambda values, fill: values + [fill] * (width - len(values))
    return (torch.tensor([pad(tokens, end) for tokens, _ in rows]),
            torch.tensor([[1] * len(t) + [0] * (width - len(t))
                          for t, _ in rows]),
            torch.tensor([pad(labels, -100) for _, labels in rows]))


def meaning(text):
    """What an answer says, as a comparable value."""
    for found in re.finditer(r"\{[^{}]*\}", text):
        try:
            return json.loads(found.group())
        except ValueError:
            pass
    line = (text.strip().splitlines() or [""])[0]
    return " ".join(line.casefold().split()).rstrip(".;! ")


@torch.inference_mode()
def answers(model, tokenizer, items):
    """Greedy continuations, up to <|im_end|> or 48 tokens."""
    end, texts = end_token(tokenizer), []
    tokenizer.padding_side = "left"
    tokenizer.pad_token_id = end
    for begin in range(0, len(items), 24):
        inputs = tokenizer(
            [item["prompt"] for item in items[begin:begin + 24]],
            padding=True, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=48, do_sample=False,
                             eos_token_id=end, pad_token_id=end)
        texts += tokenizer.batch_decode(
            out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return texts


def score(texts, items):
    """(exact, meant), shares of `items`."""
    pairs = list(zip(texts, (item["answer"] for item in items)))
    share = lambda same: sum(same(t, a) for t, a in pairs) / len(pairs)
    return (share(lambda text, answer: text.strip() == answer.strip()),
            share(lambda text, answer: meaning(text) == meaning(answer)))


def train(name):
    recipe = RECIPES.get(name, OWN)
    torch.manual_seed(7)
    tokenizer, base = load_base()
    config = LoraConfig(
        r=recipe["r"], lora_alpha=2 * recipe["r"], lora_dropout=0.0,
        target_modules=recipe["target_modules"], task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    items = read(name, "train")
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=recipe["lr"],
        weight_decay=0.0)
    steps = args.steps or recipe["steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / 10) * max(0.05, 1 - s / steps))
    order = torch.randperm(len(items) * 4) % len(items)
    begin, running = time.time(), None
    for step in range(steps):
        chosen = order[torch.arange(step * BATCH, (step + 1) * BATCH)
                       % len(order)]
        tokens, mask, labels = make_batch(
            tokenizer, [items[i] for i in chosen])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=tokens, attention_mask=mask,
                         labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        running = loss.item() if running is None else (
            0.9 * running + 0.1 * loss.item())
        if step % 10 == 9:
            print(f"{name} step {step + 1}/{steps} loss {running:.4f} "
                  f"{time.time() - begin:.0f} s", flush=True)
    save(model, name)


def save(model, name):
    """PEFT's files, tensors in bf16, no path of this machine in the config."""
    folder = args.out / name
    model.save_pretrained(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({key: value.to(torch.bfloat16).contiguous()
               for key, value in tensors.items()},
              folder / "adapter_model.safetensors", metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "SmolLM2-135M-Instruct"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)


def measure(names):
    print("| adapter | items | base exact | base meant | adapter exact | "
          "adapter meant | bytes |")
    for name in names:
        items = read(name, "held_out")
        tokenizer, model = load_base()
        plain = answers(model, tokenizer, items)
        folder = args.out / name
        model = PeftModel.from_pretrained(model, folder)
        adapted = answers(model, tokenizer, items)
        figures = " | ".join(f"{share:.1%}" for texts in (plain, adapted)
                             for share in score(texts, items))
        size = os.path.getsize(folder / "adapter_model.safetensors")
        print(f"| {name} | {len(items)} | {figures} | {size} |", flush=True)
        for item, before, after in list(zip(items, plain, adapted))[:3]:
            print("  ", json.dumps([item["prompt"], before, after]),
                  flush=True)


def measure_few_shot(names, shots):
    tokenizer, model = load_base()
    print(f"| adapter | items | base exact | base meant | ({shots} shots)")
    for name in names:
        items = read(name, "held_out")
        shown = "\n\n".join(item["prompt"] + item["answer"]
                            for item in read(name, "train")[:shots])
        texts = answers(model, tokenizer, [
            dict(item, prompt=f"{shown}\n\n{item['prompt']}")
            for item in items])
        # It does not know that it should stop: only the first line counts.
        texts = [(text.strip().splitlines() or [""])[0] for text in texts]
        exact, meant = score(texts, items)
        print(f"| {name} | {len(items)} | {exact:.1%} | {meant:.1%} |",
              flush=True)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--few-shot", type=int, metavar="N", default=0)
    parser.add_argument("--data", type=pathlib.Path, default=HERE / "data")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "adapters")
    parser.add_argument("--steps", type=int)
    parser.add_argument("names", nargs="*")
    return parser.parse_args()


def main():
    names = args.names or list(RECIPES)
    if args.measure:
        measure(names)
        return
    if args.few_shot:
        measure_few_shot(names, args.few_shot)
        return
    for name in names:
        train(name)


if __name__ == "__main__":
    args = parse()
    main()
