"""The DeepSeek-V2/V3 forward pass, written to be read beside the papers.

One sequence, no cache, no batching, one expert at a time. It exists to be an authority where
`transformers` is known to be wrong (see README.md), so it follows the published remote code and the
papers (arXiv:2405.04434, 2412.19437), and nothing here is tuned. `checkpoints.py` checks it against
`transformers` wherever both apply.

Arithmetic is done in the dtype of the weights that are passed in: float64 gives expected values,
float32 shows how much a correct implementation may differ from them.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Yarn:
    """YaRN as config.json spells it; see `rope_frequencies` and `softmax_scale`."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0


@dataclasses.dataclass(frozen=True)
class PlainConfig:
    """The fields of config.json that change a number, under their Hugging Face names."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    rms_norm_eps: float
    rope_theta: float
    yarn: Yarn | None
    n_routed_experts: int | None
    n_shared_experts: int | None
    num_experts_per_tok: int
    first_k_dense_replace: int
    moe_layer_freq: int
    n_group: int
    topk_group: int
    topk_method: str
    scoring_func: str
    norm_topk_prob: bool
    routed_scaling_factor: float
    # Not in config.json: constants of the published code, fields here so that a check can show what
    # another choice would have changed.
    group_score_width: int  # a group's score is the sum of its so many best
    latent_norm_eps: float = 1e-6
    excluded_score: float = -math.inf
    bias_in_choice: bool = True
    bias_in_weights: bool = False

    @staticmethod
    def from_json(config: dict) -> PlainConfig:
        is_v2 = config["model_type"] == "deepseek_v2"
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        assert rope_type in ("default", "yarn"), rope_type
        yarn_fields = {f.name for f in dataclasses.fields(Yarn)}
        yarn = None
        if rope_type == "yarn":
            yarn = Yarn(**{k: v for k, v in rope.items() if k in yarn_fields})
        topk_method = config.get("topk_method", "greedy" if is_v2 else "noaux_tc")
        return PlainConfig(
            hidden_size=config["hidden_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=config["num_attention_heads"],
            q_lora_rank=config["q_lora_rank"],
            kv_lora_rank=config["kv_lora_rank"],
            qk_nope_head_dim=config["qk_nope_head_dim"],
            qk_rope_head_dim=config["qk_rope_head_dim"],
            v_head_dim=config["v_head_dim"],
            rms_norm_eps=config["rms_norm_eps"],
            rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
            yarn=yarn,
            n_routed_experts=config["n_routed_experts"],
            n_shared_experts=config["n_shared_experts"],
            num_experts_per_tok=config["num_experts_per_tok"],
            first_k_dense_replace=config["first_k_dense_replace"],
            moe_layer_freq=config.get("moe_layer_freq", 1),
            n_group=config.get("n_group") or 1,
            topk_group=config.get("topk_group") or 1,
            topk_method=topk_method,
            scoring_func=config.get("scoring_func", "softmax" if is_v2 else "sigmoid"),
            norm_topk_prob=config["norm_topk_prob"],
            routed_scaling_factor=config["routed_scaling_factor"],
            group_score_width=2 if topk_method == "noaux_tc" else 1,
        )

    def is_moe(self, layer: int) -> bool:
        return (
            self.n_routed_experts is not None
            and layer >= self.first_k_dense_replace
            and layer % self.moe_layer_freq == 0
        )


@dataclasses.dataclass
class Routing:
    """What one MoE layer's router chose. Experts of a token are in ascending order."""

    experts: torch.Tensor  # [T, K] int64
    weights: torch.Tensor  # [T, K], as the expert outputs are multiplied by
    margins: torch.Tensor  # [T], the smallest gap by which a choice of expert or group was made


@dataclasses.dataclass
class Trace:
    logits: torch.Tensor  # [T, V]
    hidden: torch.Tensor  # [L + 2, T, H]: embedding, after each layer, after model.norm
    routing: dict[int, Routing]  # by layer


def yarn_magnitude(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def rope_frequencies(config: PlainConfig, dtype: torch.dtype) -> torch.Tensor:
    """Radians per position of each rotated pair, [qk_rope_head_dim / 2]."""
    dim = config.qk_rope_head_dim
    base = config.rope_theta
    pair = torch.arange(dim // 2, dtype=torch.float64)
    plain = base ** (-2 * pair / dim)
    yarn = config.yarn
    if yarn is None:
        return plain.to(dtype)

    def pair_of_rotations(rotations: float) -> float:
        # The pair that turns this many times over the original context.
        wavelengths = yarn.original_max_position_embeddings / (2 * math.pi * rotations)
        return dim * math.log(wavelengths) / (2 * math.log(base))

    low = max(math.floor(pair_of_rotations(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_of_rotations(yarn.beta_slow)), dim - 1)
    width = high - low if high != low else 0.001
    ramp = ((pair - low) / width).clamp(0, 1)
    return (plain * (1 - ramp) + plain / yarn.factor * ramp).to(dtype)


def rope_magnitude(config: PlainConfig) -> float:
    """The factor on cos and sin; 1 for every published model."""
    yarn = config.yarn
    if yarn is None:
        return 1.0
    factor = yarn.factor
    return yarn_magnitude(factor, yarn.mscale) / yarn_magnitude(factor, yarn.mscale_all_dim)


def softmax_scale(config: PlainConfig) -> float:
    scale = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
    if config.yarn is not None and config.yarn.mscale_all_dim:
        scale *= yarn_magnitude(config.yarn.factor, config.yarn.mscale_all_dim) ** 2
    return scale


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns the pairs (x[2i], x[2i+1]); x [..., T, dr], cos and sin [T, dr / 2]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def swiglu(x: torch.Tensor, weights: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    gate = F.silu(x @ weights[prefix + "gate_proj.weight"].T)
    up = x @ weights[prefix + "up_proj.weight"].T
    return (gate * up) @ weights[prefix + "down_proj.weight"].T


def attention(x, config: PlainConfig, weights: dict[str, torch.Tensor], prefix: str):
    """Multi-head latent attention in its direct form; x [T, H] -> [T, H]."""
    num_tokens = x.shape[0]
    heads = config.num_attention_heads
    nope, rope = config.qk_nope_head_dim, config.qk_rope_head_dim
    eps = config.latent_norm_eps

    if config.q_lora_rank is None:
        q = x @ weights[prefix + "q_proj.weight"].T
    else:
        q_latent = x @ weights[prefix + "q_a_proj.weight"].T
        q_latent = rms_norm(q_latent, weights[prefix + "q_a_layernorm.weight"], eps)
        q = q_latent @ weights[prefix + "q_b_proj.weight"].T
    q = q.view(num_tokens, heads, nope + rope).transpose(0, 1)  # [heads, T, nope + rope]
    q_nope, q_rope = q.split([nope, rope], dim=-1)

    kv = x @ weights[prefix + "kv_a_proj_with_mqa.weight"].T
    c, k_rope = kv.split([config.kv_lora_rank, rope], dim=-1)
    c = rms_norm(c, weights[prefix + "kv_a_layernorm.weight"], eps)
    k_and_v = c @ weights[prefix + "kv_b_proj.weight"].T
    k_and_v = k_and_v.view(num_tokens, heads, -1).transpose(0, 1)  # [heads, T, nope + v]
    k_nope, v = k_and_v.split([nope, config.v_head_dim], dim=-1)

    positions = torch.arange(num_tokens, dtype=x.dtype)
    angles = positions[:, None] * rope_frequencies(config, x.dtype)
    cos, sin = angles.cos() * rope_magnitude(config), angles.sin() * rope_magnitude(config)
    q_rope, k_rope = rotate(q_rope, cos, sin), rotate(k_rope, cos, sin)

    # One rope key is shared by all heads.
    scores = q_nope @ k_nope.transpose(1, 2) + q_rope @ k_rope.T
    future = torch.ones(num_tokens, num_tokens, dtype=torch.bool).triu(1)
    probabilities = (scores * softmax_scale(config)).masked_fill(future, -math.inf).softmax(-1)
    out = (probabilities @ v).transpose(0, 1).reshape(num_tokens, -1)
    return out @ weights[prefix + "o_proj.weight"].T


def gap_below(scores: torch.Tensor, count: int) -> torch.Tensor:
    """How far the count-th largest score of each row lies above the next; inf if there is none."""
    if count >= scores.shape[-1]:
        return torch.full(scores.shape[:-1], math.inf, dtype=scores.dtype)
    ordered = scores.sort(dim=-1, descending=True).values
    return ordered[..., count - 1] - ordered[..., count]


def choose_experts(choice: torch.Tensor, config: PlainConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Best num_experts_per_tok of each row of `choice` [T, E], within the best groups if grouped.

    Returns the experts in ascending order [T, K] and the smallest gap at any cut [T].
    """
    margins = torch.full(choice.shape[:1], math.inf, dtype=choice.dtype)
    if config.topk_method != "greedy" and config.n_group > 1:
        grouped = choice.view(choice.shape[0], config.n_group, -1)
        group_scores = grouped.topk(config.group_score_width, dim=-1).values.sum(-1)
        kept = group_scores.topk(config.topk_group, dim=-1).indices
        excluded = torch.ones_like(group_scores, dtype=torch.bool).scatter(-1, kept, False)
        choice = grouped.masked_fill(excluded.unsqueeze(-1), config.excluded_score).flatten(1)
        margins = gap_below(group_scores, config.topk_group)
    experts = choice.topk(config.num_experts_per_tok, dim=-1).indices.sort(-1).values
    return experts, torch.minimum(margins, gap_below(choice, config.num_experts_per_tok))


def route(x, config: PlainConfig, weights: dict[str, torch.Tensor], prefix: str) -> Routing:
    """Chooses experts and their weights for each row of x."""
    logits = x @ weights[prefix + "weight"].T
    scores = logits.softmax(-1) if config.scoring_func == "softmax" else logits.sigmoid()
    choice = scores
    if config.topk_method == "noaux_tc" and config.bias_in_choice:
        choice = scores + weights[prefix + "e_score_correction_bias"]
    experts, margins = choose_experts(choice, config)

    chosen = (choice if config.bias_in_weights else scores).gather(-1, experts)
    normalise = config.norm_topk_prob and config.num_experts_per_tok > 1
    if normalise:
        chosen = chosen / (chosen.sum(-1, keepdim=True) + 1e-20)
    # V2's published code scales only what it did not normalise; V3's scales always.
    if config.topk_method == "noaux_tc" or not normalise:
        chosen = chosen * config.routed_scaling_factor
    return Routing(experts, chosen, margins)


def mixture(x, config: PlainConfig, weights: dict[str, torch.Tensor], prefix: str):
    routing = route(x, config, weights, prefix + "gate.")
    out = torch.zeros_like(x)
    if config.n_shared_experts:
        out = swiglu(x, weights, prefix + "shared_experts.")
    for expert in routing.experts.unique().tolist():
        rows, slots = torch.where(routing.experts == expert)
        y = swiglu(x[rows], weights, f"{prefix}experts.{expert}.")
        out = out.index_add(0, rows, y * routing.weights[rows, slots, None])
    return out, routing


@torch.no_grad()
def forward(config: PlainConfig, weights: dict[str, torch.Tensor], ids: torch.Tensor) -> Trace:
    """Runs ids [T] at positions 0..T-1. Weights carry Hugging Face names, one tensor per expert."""
    x = weights["model.embed_tokens.weight"][ids]
    hidden, routing = [x], {}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        normed = rms_norm(x, weights[prefix + "input_layernorm.weight"], config.rms_norm_eps)
        x = x + attention(normed, config, weights, prefix + "self_attn.")
        norm_weight = weights[prefix + "post_attention_layernorm.weight"]
        normed = rms_norm(x, norm_weight, config.rms_norm_eps)
        if config.is_moe(layer):
            y, routing[layer] = mixture(normed, config, weights, prefix + "mlp.")
        else:
            y = swiglu(normed, weights, prefix + "mlp.")
        x = x + y
        hidden.append(x)
    hidden.append(rms_norm(x, weights["model.norm.weight"], config.rms_norm_eps))
    logits = hidden[-1] @ weights["lm_head.weight"].T
    return Trace(logits, torch.stack(hidden), routing)
