#!/usr/bin/env python3
"""Writes models/*: tiny random Llama checkpoints as Transformers saves them."""

import json
import pathlib
import shutil

import torch
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


def main():
    for name, (options, shard) in VARIANTS.items():
        save(name, options, shard)


if __name__ == "__main__":
    main()
