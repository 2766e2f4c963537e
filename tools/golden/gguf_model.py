"""Writes tests/golden/gguf/: small deepseek2 files, by the `gguf` package.

    python tools/golden/gguf_model.py [--output DIRECTORY]

* `v2_lite.gguf`, `v3.gguf`: cases of tests/golden/checkpoints in the layout of old and of new
  converters: attn_kv_b in the first, attn_k_b and attn_v_b in the second. Matrices keep the type of
  the checkpoint. Their logits are those of the cases (expected.safetensors).
* `q8_0.gguf`: random weights in Q8_0, keys and values apart.
* `q8_0_values-0000N-of-00002.gguf`: the same weights in F32, as `gguf` dequantizes them, keys and
  values joined, in two parts.
* `stories_text.gguf`: config and tokenizer of models/baleen-stories-mini, and a chat template of
  V2; no tensors.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
Q8_0 = gguf.GGMLQuantizationType.Q8_0

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
MODEL_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclasses.dataclass
class Stored:
    """A tensor as it goes into the file; `type` None: as the array is."""

    data: np.ndarray
    type: gguf.GGMLQuantizationType | None = None


def store(tensor: torch.Tensor) -> Stored:
    if tensor.dtype == torch.bfloat16:
        return Stored(tensor.contiguous().view(torch.uint8).numpy(), gguf.GGMLQuantizationType.BF16)
    return Stored(tensor.contiguous().numpy())


def rename(weights: dict[str, torch.Tensor], experts: int) -> dict[str, torch.Tensor]:
    """Hugging Face names to GGUF names; experts stacked; everything of one dimension in F32."""
    named = {}
    for name, tensor in weights.items():
        if tensor.dim() == 1 or name.endswith("mlp.gate.weight"):
            tensor = tensor.float()
        if name in MODEL_NAMES:
            named[MODEL_NAMES[name]] = tensor
            continue
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        if rest.startswith("mlp.experts."):
            _, _, expert, part, _ = rest.split(".")
            if expert == "0":
                every = [weights[name.replace(".experts.0.", f".experts.{i}.")]
                         for i in range(experts)]
                kind = part.removesuffix("_proj")
                named[f"blk.{layer}.ffn_{kind}_exps.weight"] = torch.stack(every)
        elif rest == "mlp.gate.e_score_correction_bias":
            named[f"blk.{layer}.exp_probs_b.bias"] = tensor
        else:
            named[f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"] = tensor
    return named


def split_kv_b(named: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    heads, nope, dv = (
        config[key] for key in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim")
    )
    result = {}
    for name, tensor in named.items():
        if not name.endswith("attn_kv_b.weight"):
            result[name] = tensor
            continue
        by_head = tensor.view(heads, nope + dv, -1)
        result[name.replace("kv_b", "k_b")] = by_head[:, :nope].transpose(1, 2)
        result[name.replace("kv_b", "v_b")] = by_head[:, nope:]
    return result


def add_keys(writer: gguf.GGUFWriter, config: dict, is_split: bool) -> None:
    rope, nope = config["qk_rope_head_dim"], config["qk_nope_head_dim"]
    rank = config["kv_lora_rank"]
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(rope)
    writer.add_kv_lora_rank(rank)
    if config.get("q_lora_rank"):
        writer.add_q_lora_rank(config["q_lora_rank"])
    if is_split:
        writer.add_head_count_kv(1)
        writer.add_key_length(rank + rope)
        writer.add_value_length(rank)
        writer.add_key_length_mla(nope + rope)
        writer.add_value_length_mla(config["v_head_dim"])
    else:
        writer.add_head_count_kv(config["num_attention_heads"])
        writer.add_key_length(nope + rope)
        writer.add_value_length(config["v_head_dim"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    if config["norm_topk_prob"]:
        writer.add_expert_weights_norm(True)
    if config["scoring_func"] == "sigmoid":  # softmax goes without saying, as in old files
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if config["n_group"] > 1:
        writer.add_expert_group_count(config["n_group"])
        writer.add_expert_group_used_count(config["topk_group"])
    yarn = config.get("rope_scaling")
    if yarn:
        assert yarn["mscale"] == yarn["mscale_all_dim"]
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(yarn["factor"])
        writer.add_rope_scaling_orig_ctx_len(yarn["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_log_mul(0.1 * yarn["mscale_all_dim"])


def write(
    path: pathlib.Path, config: dict, tensors: dict[str, Stored], is_split: bool, parts: int = 1
) -> None:
    limit = -(-len(tensors) // parts) if parts > 1 else 0
    writer = gguf.GGUFWriter(path, "deepseek2", split_max_tensors=limit)
    add_keys(writer, config, is_split)
    for name, stored in tensors.items():
        writer.add_tensor(name, stored.data, raw_dtype=stored.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_case(name: str, output: pathlib.Path, is_split: bool) -> None:
    directory = ROOT / "tests/golden/checkpoints" / name
    config = json.loads((directory / "config.json").read_text())
    named = rename(load_file(directory / "model.safetensors"), config["n_routed_experts"])
    if is_split:
        named = split_kv_b(named, config)
    write(output / f"{name}.gguf", config, {n: store(t) for n, t in named.items()}, is_split)


SMALL = {
    "vocab_size": 64,
    "max_position_embeddings": 512,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 32,
    "v_head_dim": 16,
    "kv_lora_rank": 32,
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": False,
    "scoring_func": "softmax",
    "n_group": 1,
}


def small_weights(random: np.random.Generator) -> dict[str, np.ndarray]:
    """GGUF names, F32, keys and values apart."""
    h, heads = SMALL["hidden_size"], SMALL["num_attention_heads"]
    nope, rope, dv = SMALL["qk_nope_head_dim"], SMALL["qk_rope_head_dim"], SMALL["v_head_dim"]
    rank, width = SMALL["kv_lora_rank"], SMALL["moe_intermediate_size"]
    experts = SMALL["n_routed_experts"]
    shapes = {
        "token_embd": (SMALL["vocab_size"], h),
        "output_norm": (h,),
        "output": (SMALL["vocab_size"], h),
    }
    for layer in range(SMALL["num_hidden_layers"]):
        block = {
            "attn_norm": (h,),
            "attn_q": (heads * (nope + rope), h),
            "attn_kv_a_mqa": (rank + rope, h),
            "attn_kv_a_norm": (rank,),
            "attn_k_b": (heads, rank, nope),
            "attn_v_b": (heads, dv, rank),
            "attn_output": (h, heads * dv),
            "ffn_norm": (h,),
        }
        if layer < SMALL["first_k_dense_replace"]:
            inner = SMALL["intermediate_size"]
            block |= {"ffn_gate": (inner, h), "ffn_up": (inner, h), "ffn_down": (h, inner)}
        else:
            block |= {
                "ffn_gate_inp": (experts, h),
                "ffn_gate_exps": (experts, width, h),
                "ffn_up_exps": (experts, width, h),
                "ffn_down_exps": (experts, h, width),
                "ffn_gate_shexp": (width, h),
                "ffn_up_shexp": (width, h),
                "ffn_down_shexp": (h, width),
            }
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    weights = {}
    for name, shape in shapes.items():
        values = random.standard_normal(shape, dtype=np.float32)
        weights[name + ".weight"] = 1 + 0.1 * values if len(shape) == 1 else 0.3 * values
    return weights


def write_small(output: pathlib.Path) -> None:
    quantized, values = {}, {}
    for name, weight in small_weights(np.random.default_rng(20240514)).items():
        if weight.ndim == 1 or "ffn_gate_inp" in name:
            quantized[name] = values[name] = Stored(weight)
            continue
        blocks = gguf.quants.quantize(weight, Q8_0)
        quantized[name] = Stored(blocks, Q8_0)
        values[name] = Stored(gguf.quants.dequantize(blocks, Q8_0))
    for layer in range(SMALL["num_hidden_layers"]):
        keys = values.pop(f"blk.{layer}.attn_k_b.weight").data
        rows = values.pop(f"blk.{layer}.attn_v_b.weight").data
        joined = np.concatenate((keys.transpose(0, 2, 1), rows), axis=1)
        values[f"blk.{layer}.attn_kv_b.weight"] = Stored(
            np.ascontiguousarray(joined.reshape(-1, SMALL["kv_lora_rank"]))
        )
    write(output / "q8_0.gguf", SMALL, quantized, is_split=True)
    write(output / "q8_0_values.gguf", SMALL, values, is_split=False, parts=2)


def write_text(output: pathlib.Path) -> None:
    model = ROOT / "models/baleen-stories-mini"
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    types = [gguf.TokenType.NORMAL] * len(tokens)
    for added in tokenizer["added_tokens"]:
        if added["id"] == len(tokens):
            tokens.append(added["content"])
            types.append(gguf.TokenType.NORMAL)
        assert tokens[added["id"]] == added["content"]
        special = added["special"]
        types[added["id"]] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer = gguf.GGUFWriter(output / "stories_text.gguf", "deepseek2")
    add_keys(writer, json.loads((model / "config.json").read_text()), is_split=False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("deepseek-v3")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template((ROOT / "tests/fuzz/corpus/chat_template/deepseek-v2").read_text())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "tests/golden/gguf")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    write_case("v2_lite", output, is_split=False)
    write_case("v3", output, is_split=True)
    write_small(output)
    write_text(output)


if __name__ == "__main__":
    main()
