"""OpenVINO GenAI: its continuous batching pipeline, in process.

Engines: base (no adapters), narrow and wide (all adapters of a shape). One
adapter applies to a whole generate() call: a list of requests with different
ones is answered with the first one's. So requests go adapter by adapter.
"""

import time

import numpy as np
import openvino as ov
import openvino_genai as genai

import worker
import workloads

SCALE = 16.0  # alpha / rank; the pipeline doesn't read adapter_config.json


class OpenVino:
    def __init__(self, folder, kind, engine):
        self.version = f"openvino-genai {genai.get_version()}"
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = 32
        scheduler.max_num_batched_tokens = 1024
        scheduler.cache_size = 2  # GB
        scheduler.enable_prefix_caching = False
        properties = {"INFERENCE_PRECISION_HINT": "bf16",
                      "INFERENCE_NUM_THREADS": 2}
        models = folder / "models"
        self.adapters = []
        if engine != "base":
            self.adapters = [
                genai.Adapter(worker.adapter_folder(models, engine, i)
                              / "adapter_model.safetensors")
                for i in range(workloads.ADAPTERS)]
            properties["adapters"] = genai.AdapterConfig(self.adapters)
        self.pipeline = genai.ContinuousBatchingPipeline(
            str(models / "openvino" / kind), scheduler, "CPU", properties)

    def config(self, output, adapter):
        config = genai.GenerationConfig()
        config.max_new_tokens = output
        config.ignore_eos = True
        config.do_sample = False
        if self.adapters:
            config.adapters = genai.AdapterConfig() if adapter is None else (
                genai.AdapterConfig(self.adapters[adapter], SCALE))
        return config

    def run(self, requests, in_flight, output):
        tensors = [ov.Tensor(np.array([ids], dtype=np.int64))
                   for ids, _ in requests]
        by_adapter = {}
        for i, (_, adapter) in enumerate(requests):
            by_adapter.setdefault(adapter, []).append(i)
        answers = [None] * len(requests)
        began = time.perf_counter()
        for adapter, indices in by_adapter.items():
            config = self.config(output, adapter)
            if adapter is None and not self.adapters:
                self.closed_loop(tensors, indices, in_flight, config, answers)
                continue
            for wave in worker.in_waves(indices, in_flight):
                results = self.pipeline.generate([tensors[i] for i in wave],
                                                 [config] * len(wave))
                for i, result in zip(wave, results):
                    answers[i] = list(result.m_generation_ids[0])
        return time.perf_counter() - began, answers

    def closed_loop(self, tensors, indices, in_flight, config, answers):
        waiting, running = list(reversed(indices)), {}
        while waiting or running:
            while waiting and len(running) < in_flight:
                i = waiting.pop()
                running[i] = self.pipeline.add_request(i, tensors[i], config)
            self.pipeline.step()
            for i, handle in list(running.items()):
                if handle.get_status() != genai.GenerationStatus.RUNNING:
                    del running[i]
                    answers[i] = [token for output in handle.read_all()
                                  for token in output.generated_ids]


if __name__ == "__main__":
    worker.serve(OpenVino)
