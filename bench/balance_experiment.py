#!/usr/bin/env python3
"""Does balancing without an auxiliary loss do in small what arXiv:2408.15664 says? Trains one model
many times and compares.

  bench/balance_experiment.py BALEEN --data TEXT... --output DIR [--separator SEP] [--steps 1000]
                              [--seeds 3] [--jobs 2] [--only NAME] [--set KEY=VALUE]...

One architecture (64 experts, 4 of them and a shared one for each token, less than 1.5 M active
parameters), one text, one budget; `bias`, `aux` (alpha 1e-3) and `none` with each seed, `aux` with
alpha 1e-2 and `bias` with 256 experts once. Runs of one thread each, `--jobs` side by side: losses
do not depend on either. A bias moves by 5e-3 a step, five times as far as in the paper, because a
run is so short, and comes to rest in the last quarter; the learning rate falls to 0; documents are
cut to 2,000 bytes, so that a step sees many places of the text (docs/balance.md says what each is
worth). A seed sets weights and the order of the text; the held-out text is the same always. Runs
that are finished in DIR are not run again. `--only` leaves out all runs of other names; `--set`
changes a key of every run's configuration. Writes DIR/results.json, DIR/table.md and
DIR/balance.svg.
"""
import argparse
import concurrent.futures
import json
import math
import pathlib
import statistics
import subprocess
import sys

MODEL = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 2048,
    "hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 64,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
    "n_shared_experts": 1, "n_routed_experts": 64, "num_experts_per_tok": 4,
    "first_k_dense_replace": 0, "routed_scaling_factor": 1.0, "norm_topk_prob": True,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1,
    "kv_lora_rank": 64, "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16,
    "v_head_dim": 32, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
    "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
}
COLOURS = {"bias": "#2a78d6", "aux 1e-3": "#eb6834", "aux 1e-2": "#8a5bb5", "none": "#767676",
           "bias, 256 experts": "#1b9e77"}


def run(command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with exit code {done.returncode}")
    return done.stdout


def train(options, tokenizer, name, seed, settings, model):
    """The results of one run, from DIR if they are there."""
    directory = options.output / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    result = directory / "result.json"
    if not result.exists():
        directory.mkdir(parents=True, exist_ok=True)
        config = {
            "model": model, "tokenizer": str(tokenizer), "data": [str(p) for p in options.data],
            "separator": options.separator, "output": str(directory), "seed": seed,
            "held_out_share": 0.03, "steps": options.steps, "sequence_length": 256,
            "batch_size": 8, "micro_batch_size": 8, "lr": 3e-3,
            "warmup_steps": options.steps // 10, "min_lr_ratio": 0, "max_document_bytes": 2000,
            "products": "f32", "sequence_alpha": 0, "bias_update_speed": 5e-3,
            "bias_decay_share": 0.25,
            "validate_every": 0, "validation_tokens": 10**9, "checkpoint_every": 0, **settings,
            **{key: json.loads(value) for key, value in (s.split("=", 1) for s in options.set)},
        }
        path = directory / "config.json.run"
        path.write_text(json.dumps(config))
        result.write_text(run([options.baleen, "train", path, "--threads", 1, "--json"]))
        (directory / "model.safetensors").unlink(missing_ok=True)
        (directory / "run/state.safetensors").unlink(missing_ok=True)
    values = json.loads(result.read_text())
    steps = [json.loads(line) for line in
             (directory / "run/metrics.jsonl").read_text().splitlines()]
    values["max_vio_of_steps"] = [step["max_vio"] for step in steps]
    experts = model["n_routed_experts"] * model["num_hidden_layers"]
    values["busy_experts"] = 1 - values["validation_dead_experts"] / experts
    print(f"{name}, seed {seed}: loss {values['validation_loss']:.4f}, "
          f"MaxVio {values['validation_max_vio']:.3f}", file=sys.stderr)
    return values


def mean_and_error(values):
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.mean(values), error


def table(results):
    lines = ["| method | seeds | validation loss | MaxVio, validation | experts with at least "
             "10 % of a fair share |", "|---|---|---|---|---|"]
    for name, runs in results.items():
        def cell(key, digits, scale=1):
            mean, error = mean_and_error([r[key] * scale for r in runs])
            text = f"{mean:.{digits}f}"
            return text if error is None else f"{text} ± {error:.{digits}f}"
        lines.append(f"| {name} | {len(runs)} | {cell('validation_loss', 4)} | "
                     f"{cell('validation_max_vio', 3)} | {cell('busy_experts', 1, 100)} % |")
    for other in ("aux 1e-3", "none"):
        if "bias" not in results or other not in results:
            continue
        differences = [100 * (b["validation_loss"] / o["validation_loss"] - 1)
                       for b, o in zip(results["bias"], results[other])]
        mean, error = mean_and_error(differences)
        spread = "" if error is None else f" ± {error:.2f}"
        lines += ["", f"Loss of bias against {other}, paired by seed: {mean:+.2f}{spread} %."]
    return "\n".join(lines) + "\n"


def plot(results):
    """MaxVio of each step's tokens, averaged over layers and seeds and over 20 steps."""
    width, height, left, bottom, right, top = 720, 360, 52, 40, 150, 16
    curves = {}
    for name, runs in results.items():
        mean = [statistics.mean(values) for values in
                zip(*(r["max_vio_of_steps"] for r in runs))]
        curves[name] = [(end, statistics.mean(mean[max(0, end - 20):end]))
                        for end in range(5, len(mean) + 1, 5)]
    last = max(points[-1][0] for points in curves.values())
    highest = math.ceil(max(y for points in curves.values() for _, y in points))
    def at(x, y):
        return (left + (width - left - right) * x / last,
                height - bottom - (height - bottom - top) * y / highest)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" '
             'fill="white"/>']
    for y in range(0, highest + 1, max(1, highest // 6)):
        x0, py = at(0, y)
        x1, _ = at(last, y)
        parts.append(f'<line x1="{x0}" y1="{py:.1f}" x2="{x1}" y2="{py:.1f}" stroke="#ddd"/>'
                     f'<text x="{x0 - 8}" y="{py + 4:.1f}" text-anchor="end">{y}</text>')
    for i in range(5):
        px, py = at(last * i / 4, 0)
        parts.append(f'<text x="{px:.1f}" y="{py + 18:.1f}" text-anchor="middle">'
                     f'{round(last * i / 4)}</text>')
    px, py = at(last / 2, 0)
    parts.append(f'<text x="{px:.1f}" y="{py + 34:.1f}" text-anchor="middle">step</text>'
                 f'<text x="14" y="{(height - bottom) / 2:.1f}" text-anchor="middle" transform='
                 f'"rotate(-90 14 {(height - bottom) / 2:.1f})">MaxVio of a step</text>')
    for row, (name, points) in enumerate(curves.items()):
        colour = COLOURS[name]
        line = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in points)
        y = top + 14 + 20 * row
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<line x1="{width - right + 12}" y1="{y - 4}" x2="{width - right + 32}" '
                     f'y2="{y - 4}" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{width - right + 38}" y="{y}">{name}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("baleen")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--separator", default="\n\n\n")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    tokenizer = options.output / "tokenizer"
    if not tokenizer.exists():
        command = [options.baleen, "tokenizer", "train", tokenizer, "--vocab-size",
                   MODEL["vocab_size"], "--separator", options.separator]
        for path in options.data:
            command += ["--data", path]
        run(command)

    methods = {"bias": {"balance": "bias"},
               "aux 1e-3": {"balance": "aux", "expert_alpha": 1e-3},
               "none": {"balance": "none"}}
    # As many parameters in experts: four times as many, a quarter as wide, four times as many used.
    many = MODEL | {"n_routed_experts": 256, "num_experts_per_tok": 16, "moe_intermediate_size": 16,
                    "n_shared_experts": 4}
    runs = [(name, seed, settings, MODEL) for seed in range(1, options.seeds + 1)
            for name, settings in methods.items()]
    runs += [("aux 1e-2", 1, {"balance": "aux", "expert_alpha": 1e-2}, MODEL),
             ("bias, 256 experts", 1, methods["bias"], many)]
    runs = [r for r in runs if options.only in (None, r[0])]
    results = {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for run_of, values in zip(runs, pool.map(lambda r: train(options, tokenizer, *r), runs)):
            results.setdefault(run_of[0], []).append(values)
    (options.output / "results.json").write_text(json.dumps(results))
    (options.output / "table.md").write_text(table(results))
    (options.output / "balance.svg").write_text(plot(results))
    print(table(results), end="")


if __name__ == "__main__":
    main()
