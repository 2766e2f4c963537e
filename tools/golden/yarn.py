"""Writes tests/golden/yarn.json: rope frequencies and factors of published configs.

    python tools/golden/yarn.py [--output FILE]

Frequencies and the factor on cos and sin are those of the rotary embedding of `transformers`; the
softmax scale is that of its V3 attention (its V2 attention, in the pinned release, leaves YaRN's
factor out). All come from the rope fields of the config alone. Values are float32 for frequencies,
as transformers holds them, and double for the rest.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import torch
import transformers
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3 import modeling_deepseek_v3

YARN = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 40.0,
    "original_max_position_embeddings": 4096,
    "type": "yarn",
}
# Name, rope_theta, max_position_embeddings, rope_scaling.
PUBLISHED = [
    ("DeepSeek-V2, V2-Lite", 10000.0, 163840, YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}),
    ("DeepSeek-V3, R1, V3.1", 10000.0, 163840, YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}),
    ("Moonlight-16B-A3B", 50000.0, 8192, None),
    (
        "Kimi-K2",
        50000.0,
        131072,
        YARN | {"beta_fast": 1.0, "factor": 32.0, "mscale": 1.0, "mscale_all_dim": 1.0},
    ),
    (
        "Kimi-K2-0905",
        50000.0,
        262144,
        YARN | {"beta_fast": 1.0, "factor": 64.0, "mscale": 1.0, "mscale_all_dim": 1.0},
    ),
    ("unpublished: no mscale fields", 10000.0, 163840, YARN),
    (
        "unpublished: mscale differs from mscale_all_dim",
        10000.0,
        163840,
        YARN | {"mscale": 0.5, "mscale_all_dim": 1.5},
    ),
]


def describe(name: str, theta: float, max_positions: int, scaling: dict | None) -> dict:
    config = DeepseekV3Config(
        hidden_size=64,
        max_position_embeddings=max_positions,
        num_attention_heads=1,
        num_key_value_heads=1,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=8,
        rope_theta=theta,
        rope_scaling=dict(scaling) if scaling else None,
    )
    rope = modeling_deepseek_v3.DeepseekV3RotaryEmbedding(config)
    attention = modeling_deepseek_v3.DeepseekV3Attention(config, layer_idx=0)
    return {
        "name": name,
        "rope_theta": theta,
        "max_position_embeddings": max_positions,
        "rope_scaling": scaling,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "frequencies": [float(f"{f:.9g}") for f in rope.inv_freq.tolist()],
        "rope_magnitude": rope.attention_scaling,
        "softmax_scale": attention.scaling,
    }


def main() -> None:
    repository = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default_output = repository / "tests/golden/yarn.json"
    parser.add_argument("--output", type=pathlib.Path, default=default_output)
    output = parser.parse_args().output
    cases = [describe(*published) for published in PUBLISHED]
    source = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    output.write_text(json.dumps({"source": source, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
