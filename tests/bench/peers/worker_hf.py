"""Transformers + PEFT: generate() on batches of as many as are in flight.

Engines: base (no PEFT), narrow and wide (32 adapters, mixed in a batch by PEFT's
adapter_names).
"""

import time

import peft
import torch
import transformers

import worker
import workloads


class HuggingFace:
    def __init__(self, folder, kind, engine):
        assert kind == "bf16"
        torch.set_num_threads(2)
        self.version = (f"transformers {transformers.__version__}, "
                        f"peft {peft.__version__}, torch {torch.__version__}")
        models = folder / "models"
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            models / "hf", dtype=torch.bfloat16)
        self.mixed = engine != "base"
        if self.mixed:
            for i in range(workloads.ADAPTERS):
                path = worker.adapter_folder(models, engine, i)
                if i == 0:
                    self.model = peft.PeftModel.from_pretrained(
                        self.model, path, "0")
                else:
                    self.model.load_adapter(path, str(i))
        self.model.eval()

    def run(self, requests, in_flight, output):
        answers = []
        began = time.perf_counter()
        for wave in worker.in_waves(requests, in_flight):
            ids = torch.tensor([ids for ids, _ in wave])
            names = ["__base__" if adapter is None else str(adapter)
                     for _, adapter in wave]
            options = {}
            if self.mixed and len(set(names)) == 1 and names[0] != "__base__":
                self.model.set_adapter(names[0])
            elif self.mixed:
                options["adapter_names"] = names
            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids),
                    do_sample=False, max_new_tokens=output,
                    min_new_tokens=output, pad_token_id=2, **options)
            answers += out[:, ids.shape[1]:].tolist()
        return time.perf_counter() - began, answers


if __name__ == "__main__":
    worker.serve(HuggingFace)
