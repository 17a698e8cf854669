#!/usr/bin/env python3
"""What every peer is given, made in the Transformers environment:

  hf/               the demo GGUF dequantised, bf16, with its tokenizer
  adapters/SHAPE/i  PEFT's pair, the tensors of `descant bench` under SEED + i
  probes.json       prompts whose first token tells the adapters apart

  make_models.py GGUF FOLDER SEED
"""

import json
import pathlib
import sys

import peft
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import workloads

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "golden"))
import random_adapter  # noqa: E402

SCALE = 16  # alpha / rank, as in `descant bench`
PROBES = 64  # candidates
PROBE_TOKENS = 16
SHARED = 3  # other adapters that may give the same token


def make_base(gguf, folder):
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    # The one that was loaded counts as quantised and refuses to be saved.
    fresh = LlamaForCausalLM(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    # Transformers 5 writes rope_parameters, older readers want rope_theta.
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written.setdefault("rope_theta",
                       written.get("rope_parameters", {}).get("rope_theta"))
    written.pop("quantization_config", None)
    path.write_text(json.dumps(written, indent=2) + "\n")


def make_adapter(base, shape, seed, folder):
    """Tensors named and shaped by PEFT itself, filled from the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for path, module in base.named_modules():
        if path.rsplit(".", 1)[-1] not in shape.modules:
            continue
        for name, dims in (("lora_A", (shape.rank, module.in_features)),
                           ("lora_B", (module.out_features, shape.rank))):
            full = f"base_model.model.{path}.{name}.weight"
            tensors[full] = random_adapter.tensor(full, seed, dims)
    save_file(tensors, folder / "adapter_model.safetensors",
              metadata={"format": "pt"})
    config = peft.LoraConfig(
        r=shape.rank, lora_alpha=SCALE * shape.rank, lora_dropout=0.0,
        target_modules=sorted(shape.modules), task_type="CAUSAL_LM")
    config.inference_mode = True
    config.base_model_name_or_path = ""
    config.save_pretrained(folder)


def first_tokens(model, prompts):
    """Top token, its lead over the second: ([n], [n])."""
    with torch.inference_mode():
        logits = model(input_ids=prompts, logits_to_keep=1).logits[:, -1]
    top = logits.topk(2, dim=-1)
    return (top.indices[:, 0].tolist(),
            (top.values[:, 0] - top.values[:, 1]).tolist())


def make_probes(base, adapters, seed):
    """For each adapter the candidate prompt whose first token, in fp32, differs
    from that of the base and of nearly every other adapter, with the largest
    lead over the second (the base's own lead, where that is less)."""
    draw = torch.Generator().manual_seed(seed)
    prompts = torch.randint(workloads.VOCABULARY, (PROBES, PROBE_TOKENS),
                            generator=draw)
    base_tokens, base_leads = first_tokens(base, prompts)
    probes = {}
    for shape in workloads.SHAPES:
        answers = []
        for i in range(workloads.ADAPTERS):
            model = peft.PeftModel.from_pretrained(base,
                                                   adapters / shape / str(i))
            answers.append(first_tokens(model, prompts))
            base = model.unload()
        probes[shape] = [
            probe(prompts, i, answers, base_tokens, base_leads)
            for i in range(workloads.ADAPTERS)]
    return probes


def probe(prompts, i, answers, base_tokens, base_leads):
    def lead(k):
        token, own_lead = answers[i][0][k], answers[i][1][k]
        same = sum(tokens[k] == token for tokens, _ in answers) - 1
        if token == base_tokens[k] or same > SHARED:
            return -1.0
        return min(own_lead, base_leads[k])

    best = max(range(len(prompts)), key=lead)
    return {"prompt": prompts[best].tolist(), "base": base_tokens[best],
            "adapter": answers[i][0][best], "lead": round(lead(best), 3)}


def main():
    gguf, out, seed = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(
        sys.argv[3])
    if not (out / "hf" / "model.safetensors").exists():
        make_base(gguf, out / "hf")
    base = AutoModelForCausalLM.from_pretrained(out / "hf", dtype=torch.float32)
    for shape in workloads.SHAPES.values():
        for i in range(workloads.ADAPTERS):
            make_adapter(base, shape, seed + i,
                         out / "adapters" / shape.name / str(i))
    probes = make_probes(base, out / "adapters", seed)
    (out / "probes.json").write_text(json.dumps(probes) + "\n")
    for shape, items in probes.items():
        leads = sorted(item["lead"] for item in items)
        print(f"probes of {shape} adapters: leads {leads[0]} to {leads[-1]}")


if __name__ == "__main__":
    main()
