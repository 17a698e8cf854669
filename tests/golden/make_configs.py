#!/usr/bin/env python3
"""Writes data/configs.json: how Transformers understands config.json files in
the spellings that its versions 4 and 5 and model authors use."""

import importlib.metadata
import json
import pathlib
import tempfile

import torch
from transformers import AutoConfig
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.phi3 import modeling_phi3
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

HERE = pathlib.Path(__file__).resolve().parent
ROTARY = {
    "llama": modeling_llama.LlamaRotaryEmbedding,
    "mistral": modeling_mistral.MistralRotaryEmbedding,
    "qwen2": modeling_qwen2.Qwen2RotaryEmbedding,
    "qwen3": modeling_qwen3.Qwen3RotaryEmbedding,
    "gemma2": modeling_gemma2.Gemma2RotaryEmbedding,
    "gemma3_text": modeling_gemma3.Gemma3RotaryEmbedding,
    "phi3": modeling_phi3.Phi3RotaryEmbedding,
}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM", "gpt2": "GPT2LMHeadModel"}


def sizes(layers, hidden, inner, heads, vocab=1000, **more):
    return dict(num_hidden_layers=layers, hidden_size=hidden,
                intermediate_size=inner, num_attention_heads=heads,
                vocab_size=vocab, **more)


FACTORS = {"short_factor": [1.0 + i / 8 for i in range(24)],
           "long_factor": [1.0 + i for i in range(24)]}
# The spellings are those of published models; layers and vocabularies are
# fewer.
CASES = [
    ("llama 2, no kv heads, no theta", "llama", sizes(
        2, 256, 688, 8, max_position_embeddings=4096, rms_norm_eps=1e-5)),
    ("llama 3.1", "llama", sizes(
        2, 256, 896, 8, num_key_value_heads=2, rope_theta=500000.0,
        max_position_embeddings=131072, rms_norm_eps=1e-5, rope_scaling={
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"})),
    ("llama with biases", "llama", sizes(
        2, 256, 896, 8, attention_bias=True, mlp_bias=True, head_dim=64)),
    ("mistral v0.1", "mistral", sizes(
        3, 256, 896, 8, num_key_value_heads=2, sliding_window=4096,
        max_position_embeddings=32768, rms_norm_eps=1e-5, rope_theta=10000.0)),
    ("mistral v0.3", "mistral", sizes(
        3, 256, 896, 8, num_key_value_heads=2, sliding_window=None,
        head_dim=64, max_position_embeddings=32768, rope_theta=1000000.0)),
    ("mistral with defaults", "mistral", sizes(2, 256, 896, 8)),
    ("qwen2.5", "qwen2", sizes(
        4, 256, 896, 8, num_key_value_heads=2, max_position_embeddings=32768,
        max_window_layers=2, rms_norm_eps=1e-6, rope_theta=1000000.0,
        sliding_window=32768, tie_word_embeddings=True,
        use_sliding_window=False, torch_dtype="bfloat16")),
    ("qwen2.5 with yarn", "qwen2", sizes(
        4, 512, 896, 4, num_key_value_heads=2, max_position_embeddings=32768,
        rope_theta=1000000.0, rope_scaling={
            "factor": 4.0, "original_max_position_embeddings": 32768,
            "type": "yarn"})),
    ("qwen2 with windows", "qwen2", sizes(
        4, 256, 896, 8, num_key_value_heads=2, max_window_layers=3,
        sliding_window=128, use_sliding_window=True)),
    ("qwen2, layer types", "qwen2", sizes(
        3, 256, 896, 8, num_key_value_heads=2, sliding_window=64,
        use_sliding_window=True, layer_types=[
            "full_attention", "sliding_attention", "full_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0})),
    ("qwen3", "qwen3", sizes(
        3, 256, 896, 8, num_key_value_heads=2, head_dim=128,
        attention_bias=False, max_position_embeddings=40960,
        max_window_layers=28, rope_scaling=None, rope_theta=1000000,
        sliding_window=None, use_sliding_window=False,
        tie_word_embeddings=True)),
    ("qwen3 with yarn, all options", "qwen3", sizes(
        2, 256, 896, 8, num_key_value_heads=8, head_dim=64,
        attention_bias=True, max_position_embeddings=4096, rope_parameters={
            "rope_type": "yarn", "factor": 8.0, "rope_theta": 10000.0,
            "original_max_position_embeddings": 512, "beta_fast": 16,
            "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 1.3,
            "truncate": False})),
    ("gemma 2", "gemma2", sizes(
        4, 256, 896, 8, num_key_value_heads=4, head_dim=256,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        hidden_act="gelu_pytorch_tanh",
        hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=224,
        max_position_embeddings=8192, rope_theta=10000.0,
        sliding_window=4096)),
    ("gemma 2 with defaults, no caps", "gemma2", sizes(
        3, 256, 896, 8, attn_logit_softcapping=None,
        final_logit_softcapping=None)),
    ("gemma 3 1b", "gemma3_text", sizes(
        8, 256, 896, 4, num_key_value_heads=1, head_dim=256,
        attn_logit_softcapping=None, final_logit_softcapping=None,
        hidden_activation="gelu_pytorch_tanh", cache_implementation="hybrid",
        max_position_embeddings=32768, query_pre_attn_scalar=256,
        rope_local_base_freq=10000, rope_scaling=None, rope_theta=1000000,
        sliding_window=512, sliding_window_pattern=6)),
    ("gemma 3 scaled, pattern of 3", "gemma3_text", sizes(
        7, 256, 896, 4, num_key_value_heads=2, head_dim=64,
        rope_local_base_freq=5000.0, rope_theta=500000.0,
        rope_scaling={"factor": 8.0, "rope_type": "linear"},
        sliding_window=1024, sliding_window_pattern=3)),
    ("gemma 3 as Transformers 5 saves it", "gemma3_text", sizes(
        3, 256, 896, 4, num_key_value_heads=2, head_dim=64, sliding_window=64,
        layer_types=["sliding_attention", "full_attention",
                     "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0,
                               "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default",
                                  "rope_theta": 10000.0}})),
    ("phi 3 mini 4k", "phi3", sizes(
        2, 384, 1024, 4, num_key_value_heads=4, max_position_embeddings=4096,
        original_max_position_embeddings=4096, rope_scaling=None,
        rope_theta=10000.0, sliding_window=2047, attention_bias=False)),
    ("phi 3 mini 128k", "phi3", sizes(
        2, 192, 512, 4, num_key_value_heads=4,
        max_position_embeddings=131072, original_max_position_embeddings=4096,
        sliding_window=262144, rope_theta=10000.0,
        rope_scaling={"type": "longrope", **FACTORS})),
    ("phi 3, first release", "phi3", sizes(
        2, 192, 512, 4, num_key_value_heads=4,
        max_position_embeddings=131072, original_max_position_embeddings=4096,
        sliding_window=None, rope_scaling={
            "type": "su", "original_max_position_embeddings": 4096,
            **FACTORS})),
    ("phi 4 mini", "phi3", sizes(
        2, 256, 512, 4, num_key_value_heads=2, partial_rotary_factor=0.75,
        max_position_embeddings=131072, original_max_position_embeddings=4096,
        attention_bias=False, mlp_bias=False, lm_head_bias=False,
        sliding_window=262144, tie_word_embeddings=True, full_attn_mod=1,
        rope_scaling={"type": "longrope", **FACTORS})),
    ("gpt-2", "gpt2", dict(
        activation_function="gelu_new", n_ctx=1024, n_embd=192, n_head=3,
        n_layer=2, n_positions=1024, layer_norm_epsilon=1e-5,
        vocab_size=1000)),
    ("gpt-2, inner size, no scale", "gpt2", dict(
        n_embd=128, n_head=2, n_layer=2, n_inner=320, vocab_size=1000,
        scale_attn_weights=False, tie_word_embeddings=False)),
]


def rope(config, layer_type=None):
    rotary = ROTARY[config.model_type](config)
    prefix = f"{layer_type}_" if layer_type else ""
    values = getattr(rotary, f"{prefix}inv_freq")
    return {"inverse_frequencies": [float(v) for v in values],
            "attention_factor":
                float(getattr(rotary, f"{prefix}attention_scaling"))}


def windows(config):
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        types = ["sliding_attention"] * config.num_hidden_layers
    return [window if window and kind == "sliding_attention" else 0
            for kind in types]


def understand(model_type, config):
    text = {"architectures": [ARCHITECTURES[model_type]],
            "model_type": model_type, **config}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(text))
        ours = AutoConfig.from_pretrained(folder)
    gpt2 = model_type == "gpt2"
    heads = ours.num_attention_heads
    result = {
        "kv_heads": heads if gpt2 else ours.num_key_value_heads,
        "head_dim": getattr(ours, "head_dim", None)
        or ours.hidden_size // heads,
        "max_position": ours.max_position_embeddings,
        "tied": ours.tie_word_embeddings,
        "norm_eps": ours.layer_norm_epsilon if gpt2 else ours.rms_norm_eps,
        "intermediate": (ours.n_inner or 4 * ours.n_embd) if gpt2
        else ours.intermediate_size,
        "windows": [] if model_type in ("llama", "gpt2") else windows(ours),
    }
    if model_type == "gemma3_text":
        result["rope"] = rope(ours, "full_attention")
        result["window_rope"] = rope(ours, "sliding_attention")
    elif not gpt2:
        result["rope"] = rope(ours)
    return {"config": text, "understood": result}


def main():
    torch.manual_seed(0)
    versions = {name: importlib.metadata.version(name)
                for name in ("torch", "transformers")}
    cases = [{"name": name, **understand(kind, config)}
             for name, kind, config in CASES]
    (HERE / "data" / "configs.json").write_text(json.dumps(
        {"made_with": versions, "cases": cases}, indent=None,
        separators=(",", ":")) + "\n")
    print(len(cases), "configs")


if __name__ == "__main__":
    main()
