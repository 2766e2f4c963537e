"""Runs a tiny checkpoint in the native classes of `transformers`: FP32 arithmetic, eager attention.

The pinned release has faults (README.md lists them). `repairs` names those to mend before the run,
so that the rest of its arithmetic can still be compared:

  softmax_scale   V2 leaves the YaRN factor out of the softmax scale: set it.
  norm_topk_prob  V2 ignores the flag: normalise what its router returns.
  excluded_groups V3 fills excluded groups with 0: choose experts with the plain router's rule.
"""

from __future__ import annotations

import math
import pathlib

import torch
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
)

import plain_model


def in_v4_spelling(config: dict) -> dict:
    """config.json as transformers 4 reads it: no `rope_parameters`, and a model_type it knows."""
    config = {k: v for k, v in config.items() if k not in ("model_type", "quantization_config")}
    if rope := config.pop("rope_parameters", None):
        config["rope_theta"] = rope["rope_theta"]
        config["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    return config


def build(directory: pathlib.Path, config: dict, weights: dict, from_files: bool):
    """The model in float32: read from its files by transformers itself, or from `weights`."""
    is_v2 = config["model_type"] == "deepseek_v2"
    model_class = DeepseekV2ForCausalLM if is_v2 else DeepseekV3ForCausalLM
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    if from_files:
        return model_class.from_pretrained(directory, **options).eval()
    config_class = DeepseekV2Config if is_v2 else DeepseekV3Config
    model = model_class._from_config(config_class(**in_v4_spelling(config)), **options)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def repair(model, plain: plain_model.PlainConfig, repairs: tuple[str, ...]) -> None:
    for layer, block in enumerate(model.model.layers):
        if "softmax_scale" in repairs:
            block.self_attn.scaling = plain_model.softmax_scale(plain)
        if not plain.is_moe(layer):
            continue
        gate = block.mlp.gate
        if "norm_topk_prob" in repairs:
            gate.register_forward_hook(
                lambda _, __, out: (out[0], out[1] / out[1].sum(-1, keepdim=True))
            )
        if "excluded_groups" in repairs:
            gate.get_topk_indices = lambda scores, gate=gate: plain_model.choose_experts(
                scores + gate.e_score_correction_bias, plain
            )[0]


@torch.no_grad()
def forward(model, plain: plain_model.PlainConfig, ids: torch.Tensor) -> plain_model.Trace:
    hidden, routing, hooks = [], {}, []

    def keep_hidden(_, __, out):
        hidden.append((out[0] if isinstance(out, tuple) else out)[0])

    def keep_routing(layer):
        def hook(_, __, out):
            experts, order = out[0].sort(-1)
            no_margins = torch.full(ids.shape, math.nan)
            routing[layer] = plain_model.Routing(experts, out[1].gather(-1, order), no_margins)

        return hook

    for module in [model.model.embed_tokens, *model.model.layers, model.model.norm]:
        hooks.append(module.register_forward_hook(keep_hidden))
    for layer, block in enumerate(model.model.layers):
        if plain.is_moe(layer):
            hooks.append(block.mlp.gate.register_forward_hook(keep_routing(layer)))
    logits = model(ids[None], use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return plain_model.Trace(logits, torch.stack(hidden), routing)
