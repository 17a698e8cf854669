#!/usr/bin/env python3
"""Writes models/*: tiny random checkpoints as Transformers saves them, Llama's
and one or more of every other family that Descant computes."""

import json
import pathlib
import shutil

import torch
import transformers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZER = HERE / "tokenizers" / "smollm" / "tokenizer.json"
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != "
    "'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named "
    "SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>'"
    " + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}")
EOS = 2

LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}
VARIANTS = {
    # name: (config, shard size)
    "tiny-llama": (dict(tie_word_embeddings=True), None),
    "tiny-llama-untied-sharded": (
        dict(tie_word_embeddings=False, num_key_value_heads=1), "60KB"),
    "tiny-llama-rope-llama3": (
        dict(tie_word_embeddings=True,
             rope_parameters=dict(LLAMA3_ROPE, rope_theta=5000.0)), None),
    "tiny-llama-rope-linear": (
        dict(tie_word_embeddings=True, rope_parameters={
            "rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
        None),
}


def save(name, options, shard):
    torch.manual_seed(11)
    config = LlamaConfig(**{**dict(
        vocab_size=512, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32 if name == "tiny-llama" else 16,
        max_position_embeddings=512, rms_norm_eps=1e-5, eos_token_id=EOS,
        bos_token_id=1, pad_token_id=2, attention_bias=False), **options})
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # larger than the default: sharper distributions
        for key, parameter in model.named_parameters():
            if "norm" in key:
                parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(0, 0.12)
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=[EOS, 0],
                                               bos_token_id=1)
    folder = HERE / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    if shard:
        model.save_pretrained(folder, max_shard_size=shard)
    else:
        model.save_pretrained(folder)
    shutil.copy(TOKENIZER, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token":
        "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": CHATML,
    }, indent=2) + "\n")
    if name == "tiny-llama-rope-linear":  # the layout before Transformers 5
        path = folder / "config.json"
        config = json.loads(path.read_text())
        parameters = config.pop("rope_parameters")
        config["rope_theta"] = parameters["rope_theta"]
        config["rope_scaling"] = {"type": "linear",
                                  "factor": parameters["factor"]}
        path.write_text(json.dumps(config, indent=2) + "\n")


# Every feature at a strength that shows: windows shorter than the prompts,
# caps that bend, biases and norms far from their initial values.
COMMON = dict(vocab_size=512, hidden_size=64, intermediate_size=128,
              num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=512,
              rms_norm_eps=1e-5, eos_token_id=EOS, bos_token_id=1,
              pad_token_id=2)
FAMILIES = {
    # name: (class prefix, config). `layout` 4: config.json as written by
    # Transformers before 5.
    "tiny-llama-bias": ("Llama", dict(
        attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
    "tiny-mistral": ("Mistral", dict(
        head_dim=32, sliding_window=48, tie_word_embeddings=False)),
    "tiny-qwen2": ("Qwen2", dict(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=40,
        max_window_layers=1, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})),
    "tiny-qwen3": ("Qwen3", dict(
        head_dim=32, tie_word_embeddings=True, rope_parameters={
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
            "original_max_position_embeddings": 64})),
    "tiny-gemma2": ("Gemma2", dict(
        num_hidden_layers=4, intermediate_size=64, head_dim=16,
        sliding_window=32, query_pre_attn_scalar=24,
        attn_logit_softcapping=2.0, final_logit_softcapping=4.0,
        hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True)),
    "tiny-gemma3": ("Gemma3", dict(
        num_hidden_layers=6, hidden_size=48, intermediate_size=64,
        num_key_value_heads=1, head_dim=16, sliding_window=24,
        query_pre_attn_scalar=24, hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True, rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0,
                               "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default",
                                  "rope_theta": 10000.0}})),
    "tiny-phi3": ("Phi3", dict(
        sliding_window=50, tie_word_embeddings=False,
        original_max_position_embeddings=512, rope_parameters={
            "rope_type": "default", "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75})),
    "tiny-phi3-longrope": ("Phi3", dict(
        num_key_value_heads=4, tie_word_embeddings=True,
        original_max_position_embeddings=256, rope_parameters={
            "rope_type": "longrope", "rope_theta": 10000.0,
            "original_max_position_embeddings": 256,
            "short_factor": [1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0],
            "long_factor": [1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0]})),
    "tiny-gpt2": ("GPT2", dict(
        vocab_size=512, n_positions=256, n_embd=48, n_layer=3, n_head=3,
        n_inner=None, eos_token_id=EOS, bos_token_id=EOS)),
}
CLASSES = {"Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
           "GPT2": ("GPT2Config", "GPT2LMHeadModel")}
# Written as Transformers 4 did: these keys of the new layout go, those come.
LAYOUT4 = {
    "tiny-qwen2": (["rope_parameters", "layer_types", "dtype"], {
        "rope_theta": 1000000.0, "rope_scaling": None,
        "torch_dtype": "bfloat16", "sliding_window": 40}),
    "tiny-gemma3": (["rope_parameters", "layer_types", "dtype",
                     "_sliding_window_pattern"], {
        "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 6, "torch_dtype": "bfloat16"}),
    "tiny-phi3-longrope": (["rope_parameters", "dtype"], {
        "rope_theta": 10000.0, "torch_dtype": "bfloat16",
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0],
            "long_factor": [1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0]}}),
}


def randomise(model, plus_one):
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if key.endswith(".bias"):
                parameter.copy_(0.3 * noise)
            elif parameter.dim() == 1:  # norms; Gemma's multiply with 1 + w
                parameter.copy_(0.3 * noise + (0 if plus_one else 1))
            else:
                parameter.copy_(0.14 * noise)


def save_family(name, kind, options):
    torch.manual_seed(13)
    config_class, model_class = CLASSES.get(
        kind, (f"{kind}Config", f"{kind}ForCausalLM"))
    if kind != "GPT2":
        options = {**COMMON, **options}
    config = getattr(transformers, config_class)(**options)
    model = getattr(transformers, model_class)(config)
    randomise(model, kind.startswith("Gemma"))
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=[EOS, 0])
    folder = HERE / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    shutil.copy(TOKENIZER, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token":
        "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": CHATML,
    }, indent=2) + "\n")
    if name in LAYOUT4:
        gone, added = LAYOUT4[name]
        path = folder / "config.json"
        old = json.loads(path.read_text())
        for key in gone:
            old.pop(key, None)
        path.write_text(json.dumps({**old, **added}, indent=2) + "\n")


def main():
    for name, (options, shard) in VARIANTS.items():
        save(name, options, shard)
    for name, (kind, options) in FAMILIES.items():
        save_family(name, kind, options)


if __name__ == "__main__":
    main()
