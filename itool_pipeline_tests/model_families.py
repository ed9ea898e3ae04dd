"""Tiny configs of model families, with layers of every kind and windows of eight tokens."""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

VOCABULARY = 96
WINDOW = 8

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_BOTH = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
_MLA = {
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "num_key_value_heads": 4,
}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 24}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_d_ssm": 64, "mamba_n_groups": 1}

WORKING: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", {}),
    "Llama, Llama 3 positions": ("llama", {"rope_parameters": _LLAMA3}),
    "Llama, YaRN positions": ("llama", {"rope_parameters": _YARN}),
    "Llama, dynamic positions": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "Mistral (window)": ("mistral", {"sliding_window": WINDOW}),
    "Ministral": ("ministral", _BOTH),
    "Mixtral (window)": ("mixtral", {"sliding_window": WINDOW, **_EXPERTS}),
    "Qwen2, Qwen2.5": ("qwen2", {}),
    "Qwen2 (window)": ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": WINDOW}),
    "Qwen2-MoE": ("qwen2_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}),
    "Qwen3": ("qwen3", {}),
    "Qwen3-MoE": ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}),
    "Gemma": ("gemma", {}),
    "Gemma 2 (window, soft caps)": ("gemma2", {**_BOTH, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}),
    "Gemma 3 (window)": ("gemma3_text", _BOTH),
    "Phi-1.5, Phi-2": ("phi", {}),
    "Phi-3, Phi-4 (window)": ("phi3", {"sliding_window": WINDOW}),
    "OLMo 2": ("olmo2", {}),
    "OLMo 3 (window)": ("olmo3", _BOTH),
    "EXAONE 4 (window)": ("exaone4", _BOTH),
    "SmolLM3": ("smollm3", {"no_rope_layers": [1, 0]}),
    "GLM-4": ("glm4", {}),
    "GLM-4.5": ("glm4_moe", _ROUTED),
    "StableLM": ("stablelm", {}),
    "Starcoder2 (window)": ("starcoder2", {"sliding_window": WINDOW}),
    "GPT-2": ("gpt2", {}),
    "GPT-NeoX, Pythia": ("gpt_neox", {}),
    "GPT-J": ("gptj", {"rotary_dim": 4}),
    "Falcon": ("falcon", {"multi_query": True, "new_decoder_architecture": False, "alibi": False}),
    "OPT": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "Granite (scaled logits)": ("granite", {"logits_scaling": 4.0, "attention_multiplier": 0.2}),
    "Granite-MoE (scaled logits)": ("granitemoe", {"logits_scaling": 4.0, **_EXPERTS}),
    "Cohere (scaled logits)": ("cohere", {"logit_scale": 2.0}),
    "Cohere 2 (window, scaled logits)": ("cohere2", {**_BOTH, "logit_scale": 2.0}),
    "gpt-oss (window, sinks)": ("gpt_oss", {**_BOTH, **_EXPERTS}),
    "DeepSeek-V3": ("deepseek_v3", {**_MLA, **_ROUTED, "first_k_dense_replace": 1}),
    "MiniCPM3": ("minicpm3", _MLA),
    "Nemotron": ("nemotron", {}),
    "Seed-OSS": ("seed_oss", {}),
}
"""Name in docs/models.md → transformers' model type, and what is set beside the sizes."""

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3.5": ("qwen3_5_text", _LINEAR),
    "Qwen3-Next": ("qwen3_next", {**_LINEAR, "num_experts": 4, "num_experts_per_tok": 2}),
    "LFM2": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "Falcon-H1": ("falcon_h1", _MAMBA),
    "Mamba": ("mamba", {}),
    "RWKV": ("rwkv", {"attention_hidden_size": 32}),
    "Llama 4": (
        "llama4_text",
        {"floor_scale": 64, "attention_chunk_size": WINDOW, "no_rope_layers": [1, 0], **_EXPERTS},
    ),
    "BLOOM": ("bloom", {"n_layer": 2, "n_head": 4}),
    "MPT": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}),
    "Falcon (ALiBi)": ("falcon", {"multi_query": True, "new_decoder_architecture": False, "alibi": True}),
    "GPT-Neo": ("gpt_neo", {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}),
    "BERT": ("bert", {}),
}
"""Name in docs/models.md → as in WORKING."""


def tiny_config(family: tuple[str, dict[str, Any]]) -> PreTrainedConfig:
    """The family's config; what it does not know of the sizes it leaves."""
    kind, further = family
    made = CONFIG_MAPPING[kind]
    sizes = {key: value for key, value in _SIZES.items() if not isinstance(getattr(made, key, None), property)}
    return made(**{**sizes, **further})
