"""The table of tiny checkpoints that `checkpoints.py` writes. Add a case here, nowhere else."""

from __future__ import annotations

import dataclasses

YARN_V2 = {
    "beta_fast": 32,
    "beta_slow": 1,
    "factor": 40,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 4096,
    "type": "yarn",
}
YARN_V3 = YARN_V2 | {"mscale": 1.0, "mscale_all_dim": 1.0}

# Widths are multiples of 8, but many are none of 16 or 32, so that kernels meet their tails.
COMMON = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "kv_lora_rank": 32,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 16,
    "moe_layer_freq": 1,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "v_head_dim": 16,
    "vocab_size": 160,
}
V2_LITE = COMMON | {
    "architectures": ["DeepseekV2ForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 1,
    "kv_lora_rank": 24,
    "model_type": "deepseek_v2",
    "n_group": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_experts_per_tok": 3,
    "q_lora_rank": None,
    "rope_scaling": YARN_V2,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_group": 1,
    "topk_method": "greedy",
}
V3 = COMMON | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_size": 40,
    "model_type": "deepseek_v3",
    "n_group": 4,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 4,
    "num_nextn_predict_layers": 0,
    "rope_scaling": YARN_V3,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_group": 2,
    "topk_method": "noaux_tc",
}


def without(config: dict, *keys: str) -> dict:
    return {k: v for k, v in config.items() if k not in keys}


@dataclasses.dataclass(frozen=True)
class Case:
    """One checkpoint: its config.json, how its weights are stored, and who is believed about it."""

    name: str
    purpose: str
    config: dict
    dtype: str = "BF16"  # of weights; norms too
    bias_dtype: str = "F32"  # of e_score_correction_bias
    num_shards: int = 1
    packed_experts: bool = False
    fp8: bool = False
    # What to repair in `transformers` before it can be compared; its own logits are the authority
    # only where this is empty. See native_model.py for the names.
    native_repairs: tuple[str, ...] = ()
    native_applies: bool = True
    native_disagrees: bool = False  # unrepaired `transformers` must differ, or the case is blunt
    embedding_std: float = 1.0
    latent_gain: float = 1.0  # of kv_a_proj_with_mqa and q_a_proj
    expert_gain: float = 0.7
    router_gain: float = 1.5
    bias_mean: float = 0.0
    bias_std: float = 0.15
    min_margin: float = 1e-3


CASES = [
    Case(
        name="v2_lite",
        purpose="V2-Lite: greedy routing, no query compression, two shared experts, YaRN with "
        "mscale 0.707",
        config=V2_LITE,
        native_repairs=("softmax_scale",),
        native_disagrees=True,
    ),
    Case(
        name="v3",
        purpose="V3: grouped noaux_tc routing with a bias that changes choices, compressed "
        "queries, YaRN",
        config=V3,
    ),
]
