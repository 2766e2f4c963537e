"""Trains tiny V2 and V3 models with `baleen train` and writes what transformers makes of them.

    python tools/golden/trained.py BALEEN OUTPUT

For each model: trains a few steps on this repository's own pages, loads the directory as
`transformers` users do, and stores logits of the end of one page in OUTPUT/MODEL/expected.safetensors.
TrainedCheckpointTest of tests/model/golden_test.cc then compares, with OUTPUT in
BALEEN_TRAINED_CHECKPOINTS. Fails where transformers misses a tensor, or finds one that it does not
know (but those of the MTP module, which it leaves out).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess

import safetensors.torch
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "models/baleen-stories-mini"
PROMPT_LENGTH = 40

COMMON = {
    "vocab_size": 4096, "hidden_size": 48, "intermediate_size": 80, "moe_intermediate_size": 24,
    "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 3,
    "n_shared_experts": 1, "n_routed_experts": 8, "num_experts_per_tok": 3,
    "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2, "kv_lora_rank": 24,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "bos_token_id": 0, "eos_token_id": 1,
    "tie_word_embeddings": False, "hidden_act": "silu", "torch_dtype": "bfloat16",
}
MODELS = {
    "v2": COMMON | {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
        "q_lora_rank": 32, "topk_method": "group_limited_greedy", "scoring_func": "softmax",
        "norm_topk_prob": False, "routed_scaling_factor": 2.0,
    },
    "v3": COMMON | {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "q_lora_rank": None, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
        "norm_topk_prob": True, "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1,
    },
}


def train(program: str, name: str, directory: pathlib.Path):
    config = {
        "model": MODELS[name], "tokenizer": str(TOKENIZER), "data": [str(ROOT / "docs/*.md")],
        "output": str(directory), "steps": 30, "sequence_length": 64, "batch_size": 8,
        "lr": 1e-2, "warmup_steps": 5, "balance": "bias" if name == "v3" else "aux",
    }
    path = directory.parent / f"{name}.json"
    path.write_text(json.dumps(config))
    subprocess.run([program, "train", str(path)], check=True)


def load(name: str, directory: pathlib.Path):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    mtp = f"model.layers.{MODELS[name]['num_hidden_layers']}."
    unknown = [key for key in info["unexpected_keys"] if not key.startswith(mtp)]
    if info["missing_keys"] or unknown or info["mismatched_keys"]:
        raise SystemExit(f"{name}: missing {info['missing_keys']}, unknown {unknown}, "
                         f"of another shape {info['mismatched_keys']}")
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("baleen")
    parser.add_argument("output", type=pathlib.Path)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        directory = options.output / name
        train(options.baleen, name, directory)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        text = (ROOT / "docs/training.md").read_text()
        ids = tokenizer(text, return_tensors="pt").input_ids[:, -PROMPT_LENGTH:]
        with torch.no_grad():
            logits = load(name, directory)(ids, use_cache=False).logits[0]
        safetensors.torch.save_file(
            {"prompt.0.ids": ids[0].to(torch.int32), "prompt.0.logits": logits.contiguous()},
            directory / "expected.safetensors")
        print(f"{name}: {ids.shape[1]} tokens, logits up to {logits.abs().max():.2f}")


if __name__ == "__main__":
    main()
