#!/usr/bin/env python3
"""Tokens per second of training: `baleen train` and transformers + PyTorch, run in turns.

  bench/compare_training.py BALEEN [--old OLD_BALEEN] [--rounds 3] [--steps 6] [--batch 8]
                            [--length 512] [--threads 2] [--products f32,bf16]

Both train the same V3-style model (about 10 M active parameters) with AdamW and clipping: ours with
F32 products and, where the machine has the instructions, with BF16 ones; theirs in F32 and under
BF16 autocast, each alone on the machine. --old adds a second program of ours, for gains. The first
two steps of a run are not counted. Prints one JSON object: median, least and most of all counted
steps in tokens per second, and for ours the share of the roof.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
WARM_UP = 2
MODEL = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 4096,
    "hidden_size": 384, "intermediate_size": 1024, "moe_intermediate_size": 192,
    "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6,
    "n_shared_experts": 1, "n_routed_experts": 32, "routed_scaling_factor": 1.5,
    "kv_lora_rank": 128, "q_lora_rank": None, "qk_rope_head_dim": 16, "qk_nope_head_dim": 48,
    "v_head_dim": 48, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 4,
    "first_k_dense_replace": 1, "norm_topk_prob": True, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
}


def ours(options, products, program):
    with tempfile.TemporaryDirectory() as directory:
        texts = sorted(str(path) for path in ROOT.glob("docs/**/*.md"))
        config = {
            "model": MODEL, "tokenizer": str(ROOT / "models/baleen-stories-mini"), "data": texts,
            "output": directory + "/out", "steps": options.steps + WARM_UP,
            "sequence_length": options.length, "batch_size": options.batch,
            "micro_batch_size": options.batch, "products": products, "held_out_share": 0,
            "sequence_alpha": 0, "checkpoint_every": 0, "validate_every": 0,
        }
        path = pathlib.Path(directory, "run.json")
        path.write_text(json.dumps(config))
        run = subprocess.run([program, "train", path, "--threads", str(options.threads)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if "no products of BF16" in run.stderr:
            return []
        if run.returncode != 0:
            sys.exit(run.stderr)
        lines = pathlib.Path(directory, "out/run/metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line) for line in lines[WARM_UP:]]
        return [(s["tokens_per_s"], s["peak_share"]) for s in steps]


def theirs(options, products):
    """Runs in a process of its own, so that nothing of it stays."""
    command = [sys.executable, __file__, "--theirs", products, options.baleen]
    for name in ("steps", "batch", "length", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(value, None) for value in json.loads(output.splitlines()[-1])]


def run_transformers(options):
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = DeepseekV3Config(**{k: v for k, v in MODEL.items() if k != "model_type"})
    model = DeepseekV3ForCausalLM._from_config(config, attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95),
                                  weight_decay=0.1, fused=True)
    speeds = []
    for _ in range(options.steps + WARM_UP):
        ids = torch.randint(0, MODEL["vocab_size"], (options.batch, options.length))
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.theirs == "bf16"):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        speeds.append(options.batch * options.length / (time.perf_counter() - begin))
    print(json.dumps(speeds[WARM_UP:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("baleen")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--products", default="f32,bf16")
    parser.add_argument("--old")
    parser.add_argument("--theirs", choices=("f32", "bf16"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        run_transformers(options)
        return
    results = {}
    for _ in range(options.rounds):
        for products in options.products.split(","):
            programs = {"baleen": options.baleen}
            if options.old:
                programs["old baleen"] = options.old
            for name, program in programs.items():
                steps = ours(options, products, program)
                results.setdefault(f"{name} {products}", []).extend(steps)
            results.setdefault(f"transformers {products}", []).extend(theirs(options, products))
    report = {}
    for name, values in results.items():
        if not values:
            continue
        speeds = [v for v, _ in values]
        report[name] = {"tokens_per_s": round(statistics.median(speeds), 1),
                        "least": round(min(speeds), 1), "most": round(max(speeds), 1)}
        if values[0][1] is not None:
            report[name]["peak_share"] = round(statistics.median(s for _, s in values), 3)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
