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
    "aux_loss_alpha": 0.001,
    "ep_size": 1,
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
    "pretraining_tp": 1,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "seq_aux": True,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "v_head_dim": 16,
    "vocab_size": 96,
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
    "n_routed_experts": 12,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 3,
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
    bias_mean: float = 0.3  # above 0, where `transformers` excludes groups rightly
    bias_std: float = 0.15


FEW_EXPERTS = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 3}
SHORT_YARN = {"factor": 4, "original_max_position_embeddings": 16, "rope_type": "yarn"}
# Blocks of 128x128 with short edges in rows (136, 176), in columns (136), and in both.
FP8_V3 = (
    V3
    | FEW_EXPERTS
    | {
        "hidden_size": 136,
        "intermediate_size": 136,
        "kv_lora_rank": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "q_lora_rank": 40,
        "qk_nope_head_dim": 48,
        "qk_rope_head_dim": 16,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
        },
        "v_head_dim": 40,
        "vocab_size": 80,
    }
)

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
        name="v2_lite_plain_rope",
        purpose="V2-Lite without rope_scaling, n_group null, F16 weights, v_head_dim above "
        "qk_nope_head_dim",
        config=V2_LITE
        | {
            "hidden_size": 40,
            "max_position_embeddings": 4096,
            "n_group": None,
            "rope_scaling": None,
            "topk_group": None,
            "torch_dtype": "float16",
            "v_head_dim": 24,
        },
        dtype="F16",
    ),
    Case(
        name="v2_group",
        purpose="V2: group_limited_greedy routing (a group counts by its best expert), compressed "
        "queries, routed_scaling_factor 16, v_head_dim below qk_nope_head_dim",
        config=V2_LITE
        | {
            "hidden_size": 40,
            "kv_lora_rank": 32,
            "n_group": 4,
            "n_routed_experts": 12,
            "num_experts_per_tok": 4,
            "q_lora_rank": 24,
            "routed_scaling_factor": 16.0,
            "topk_group": 2,
            "topk_method": "group_limited_greedy",
            "v_head_dim": 8,
        },
        native_repairs=("softmax_scale",),
        native_disagrees=True,
        expert_gain=0.2,
    ),
    Case(
        name="v2_norm_topk",
        purpose="V2 with norm_topk_prob: weights are normalised and then not scaled, though "
        "routed_scaling_factor is 2; F32 weights",
        config=V2_LITE
        | {
            "hidden_size": 40,
            "norm_topk_prob": True,
            "num_hidden_layers": 2,
            "routed_scaling_factor": 2.0,
            "torch_dtype": "float32",
        },
        dtype="F32",
        native_repairs=("softmax_scale", "norm_topk_prob"),
        native_disagrees=True,
    ),
    Case(
        name="v2_layer_freq",
        purpose="V2 with moe_layer_freq 2 (layers 0 and 2 are MoE) and no shared experts",
        config=V2_LITE
        | {
            "first_k_dense_replace": 0,
            "hidden_size": 40,
            "moe_layer_freq": 2,
            "n_shared_experts": None,
            "num_hidden_layers": 4,
        },
        native_applies=False,
    ),
    Case(
        name="v3",
        purpose="V3: grouped noaux_tc routing with a bias that changes choices, compressed "
        "queries, YaRN",
        config=V3,
    ),
    Case(
        name="v3_sharded",
        purpose="V3 in three shards with an index, two dense layers, weights not normalised, BF16 "
        "bias, a vocabulary that no vector width divides",
        config=V3
        | FEW_EXPERTS
        | {
            "first_k_dense_replace": 2,
            "moe_intermediate_size": 24,
            "norm_topk_prob": False,
            "num_hidden_layers": 3,
            "v_head_dim": 24,
            "vocab_size": 91,
        },
        bias_dtype="BF16",
        num_shards=3,
    ),
    Case(
        name="v3_packed",
        purpose="V3 as transformers 5 saves it: packed experts, rope_parameters, no topk_method "
        "or scoring_func, head_dim as the rope width",
        config=without(
            V3,
            *("moe_layer_freq", "rope_scaling", "rope_theta", "scoring_func", "topk_method"),
            *("torch_dtype", "aux_loss_alpha", "ep_size", "seq_aux", "num_nextn_predict_layers"),
        )
        | FEW_EXPERTS
        | {
            "dtype": "bfloat16",
            "head_dim": 8,
            "hidden_size": 56,
            "num_hidden_layers": 2,
            "qk_head_dim": 24,
            "rope_interleave": True,
            "rope_parameters": without(YARN_V3, "type")
            | {"rope_theta": 10000.0, "rope_type": "yarn"},
        },
        packed_experts=True,
    ),
    Case(
        name="v3_fp8",
        purpose="V3 with FP8 weights in 128x128 blocks, some cut short at an edge; weights and "
        "their scales lie in different shards",
        config=FP8_V3,
        fp8=True,
        num_shards=2,
    ),
    Case(
        name="v3_fp8_ue8m0",
        purpose="V3.1: FP8 weights whose scales are powers of two, stored as F8_E8M0",
        config=FP8_V3
        | {
            "first_k_dense_replace": 0,
            "num_hidden_layers": 1,
            "quantization_config": FP8_V3["quantization_config"] | {"scale_fmt": "ue8m0"},
        },
        fp8=True,
    ),
    Case(
        name="v3_mtp",
        purpose="V3 with the tensors of a multi-token prediction module, which logits ignore",
        config=V3 | FEW_EXPERTS | {"num_hidden_layers": 2, "num_nextn_predict_layers": 1},
    ),
    Case(
        name="v3_negative_bias",
        purpose="V3 with biases so negative that excluded groups must be excluded, not scored 0",
        config=V3 | {"num_hidden_layers": 2},
        native_repairs=("excluded_groups",),
        native_disagrees=True,
        bias_mean=-0.8,
        bias_std=0.2,
    ),
    Case(
        name="v3_yarn_long",
        purpose="positions beyond original_max_position_embeddings; no mscale in the config, so "
        "YaRN's factor stands on cos and sin and not in the softmax scale",
        config=V3
        | FEW_EXPERTS
        | {
            "max_position_embeddings": 64,
            "num_hidden_layers": 2,
            "qk_rope_head_dim": 16,
            "rope_scaling": SHORT_YARN,
            "rope_theta": 100,
        },
    ),
    Case(
        name="v3_yarn_mscale",
        purpose="mscale other than mscale_all_dim, so that YaRN changes both cos and sin and the "
        "softmax scale",
        config=V3
        | FEW_EXPERTS
        | {
            "max_position_embeddings": 64,
            "num_hidden_layers": 2,
            "rope_scaling": SHORT_YARN | {"mscale": 0.5, "mscale_all_dim": 1.5},
            "rope_theta": 100,
        },
    ),
    Case(
        name="kimi_k2",
        purpose="Kimi-K2: model_type kimi_k2, no groups, YaRN with beta 1/1 and theta 50000",
        config=V3
        | {
            "first_k_dense_replace": 1,
            "max_position_embeddings": 131072,
            "model_type": "kimi_k2",
            "n_group": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_scaling": YARN_V3 | {"beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0},
            "rope_theta": 50000.0,
            "routed_scaling_factor": 2.827,
            "topk_group": 1,
            "v_head_dim": 24,
        },
    ),
    Case(
        name="moonlight",
        purpose="Moonlight: V3 routing without groups, no query compression, plain rope, "
        "rms_norm_eps 1e-5 beside the latent norm's 1e-6",
        config=V3
        | {
            "kv_lora_rank": 24,
            "max_position_embeddings": 8192,
            "n_group": 1,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "num_experts_per_tok": 3,
            "q_lora_rank": None,
            "rms_norm_eps": 1e-5,
            "rope_scaling": None,
            "rope_theta": 50000.0,
            "routed_scaling_factor": 2.446,
            "topk_group": 1,
        },
        embedding_std=0.02,
        latent_gain=0.02,
    ),
]
