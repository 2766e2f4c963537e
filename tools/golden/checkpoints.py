"""Writes the tiny checkpoints of tests/golden/checkpoints and what a right program makes of them.

    python tools/golden/checkpoints.py [--output DIR] [CASE ...]

For each case of checkpoint_cases.py: draws random weights and prompts from a seed, stores them as
published models are stored, reads them back, and runs the authority on what was read. The first
seed is taken for which no expert, group or greedy token is chosen by less than a margin, since a
choice made by rounding would say nothing about the program under test. README.md has the layout of
the files and the table of authorities.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import pathlib

import numpy as np
import safetensors.torch
import torch
import transformers

import native_model
import plain_model
from checkpoint_cases import CASES, Case

PROMPT_LENGTHS = (29, 7)
NUM_GREEDY = 16
# Gaps between router scores at the cut. Prompts have enough to keep their routing in BF16 as well.
MIN_PROMPT_MARGIN = 1e-2
MIN_CONTINUATION_MARGIN = 1e-3
MIN_GREEDY_MARGIN = 1e-3  # of the best logit over the second
MAX_DISAGREEMENT = 1e-5  # between authorities, relative to the largest magnitude
MIN_VARIATION = 1e-2  # by which a wrong reading of the config must move some logit
FP8_BLOCK = 128
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


class Unlucky(Exception):
    """This seed makes a choice by too small a margin, or lets a wrong reading pass."""


def three_digits(x: float) -> float:
    return float(f"{x:.3g}")


# Weights: drawn, encoded as stored, decoded.


def mlp_shapes(prefix: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        prefix + "gate_proj.weight": (width, hidden),
        prefix + "up_proj.weight": (width, hidden),
        prefix + "down_proj.weight": (hidden, width),
    }


def layer_shapes(config: dict, layer: int) -> dict[str, tuple[int, ...]]:
    plain = plain_model.PlainConfig.from_json(config)
    hidden, heads = plain.hidden_size, plain.num_attention_heads
    qk_head_dim = plain.qk_nope_head_dim + plain.qk_rope_head_dim
    at = f"model.layers.{layer}.self_attn."
    if plain.q_lora_rank is None:
        shapes = {at + "q_proj.weight": (heads * qk_head_dim, hidden)}
    else:
        shapes = {
            at + "q_a_proj.weight": (plain.q_lora_rank, hidden),
            at + "q_a_layernorm.weight": (plain.q_lora_rank,),
            at + "q_b_proj.weight": (heads * qk_head_dim, plain.q_lora_rank),
        }
    per_head = plain.qk_nope_head_dim + plain.v_head_dim
    shapes |= {
        at + "kv_a_proj_with_mqa.weight": (plain.kv_lora_rank + plain.qk_rope_head_dim, hidden),
        at + "kv_a_layernorm.weight": (plain.kv_lora_rank,),
        at + "kv_b_proj.weight": (heads * per_head, plain.kv_lora_rank),
        at + "o_proj.weight": (hidden, heads * plain.v_head_dim),
        f"model.layers.{layer}.input_layernorm.weight": (hidden,),
        f"model.layers.{layer}.post_attention_layernorm.weight": (hidden,),
    }
    mlp = f"model.layers.{layer}.mlp."
    if not plain.is_moe(layer):
        return shapes | mlp_shapes(mlp, config["intermediate_size"], hidden)
    width = config["moe_intermediate_size"]
    shapes[mlp + "gate.weight"] = (plain.n_routed_experts, hidden)
    if plain.topk_method == "noaux_tc":
        shapes[mlp + "gate.e_score_correction_bias"] = (plain.n_routed_experts,)
    for expert in range(plain.n_routed_experts):
        shapes |= mlp_shapes(f"{mlp}experts.{expert}.", width, hidden)
    if plain.n_shared_experts:
        shared_width = plain.n_shared_experts * width
        shapes |= mlp_shapes(mlp + "shared_experts.", shared_width, hidden)
    return shapes


def model_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    vocab, hidden, layers = (config[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers"))
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(layers):
        shapes |= layer_shapes(config, layer)
    for layer in range(layers, layers + config.get("num_nextn_predict_layers", 0)):
        shapes |= layer_shapes(config, layer)
        mtp = f"model.layers.{layer}."
        shapes |= {
            mtp + "embed_tokens.weight": (vocab, hidden),
            mtp + "enorm.weight": (hidden,),
            mtp + "hnorm.weight": (hidden,),
            mtp + "eh_proj.weight": (hidden, 2 * hidden),
            mtp + "shared_head.norm.weight": (hidden,),
            mtp + "shared_head.head.weight": (vocab, hidden),
        }
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}


def draw_weights(case: Case, random: np.random.Generator) -> dict[str, torch.Tensor]:
    """Float32 weights under Hugging Face names, of a size that keeps activations near 1."""
    latent = ("q_a_proj.weight", "kv_a_proj_with_mqa.weight")
    weights = {}
    for name, shape in model_shapes(case.config).items():
        values = random.standard_normal(shape)
        if name.endswith("e_score_correction_bias"):
            values = case.bias_mean + case.bias_std * values
        elif name.endswith("norm.weight"):
            values = 1 + 0.2 * values
        elif name.endswith("embed_tokens.weight"):
            values *= case.embedding_std
        else:
            gain = 1.0
            if name.endswith(latent):
                gain = case.latent_gain
            elif ".experts." in name and name.endswith("down_proj.weight"):
                gain = case.expert_gain
            elif name.endswith("mlp.gate.weight"):
                gain = case.router_gain
            elif name == "lm_head.weight":
                gain = 2.0
            values *= gain / math.sqrt(shape[-1])
        weights[name] = torch.from_numpy(values).float()
    first_mtp = case.config["num_hidden_layers"]
    for layer in range(first_mtp, first_mtp + case.config.get("num_nextn_predict_layers", 0)):
        # The published MTP module carries copies of the embedding and of the head.
        mtp = f"model.layers.{layer}."
        weights[mtp + "embed_tokens.weight"] = weights["model.embed_tokens.weight"]
        weights[mtp + "shared_head.head.weight"] = weights["lm_head.weight"]
    return weights


def is_fp8_in_published_models(name: str) -> bool:
    kept = ("embed_tokens", "lm_head", "shared_head", "norm", "mlp.gate.", "eh_proj")
    return name.endswith(".weight") and not any(part in name for part in kept)


def quantize_fp8(
    weight: torch.Tensor, power_of_two: bool, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """E4M3 codes and one F32 scale per 128x128 block; weight = code * scale.

    Each block is first given its own magnitude, so that a scale taken from a wrong block shows.
    """
    rows, columns = (math.ceil(n / FP8_BLOCK) for n in weight.shape)
    codes = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
    scales = torch.empty(rows, columns, dtype=torch.float32)
    for r, c in itertools.product(range(rows), range(columns)):
        here = np.s_[r * FP8_BLOCK : (r + 1) * FP8_BLOCK, c * FP8_BLOCK : (c + 1) * FP8_BLOCK]
        block = weight[here] * float(random.uniform(0.5, 1.5))
        scale = block.abs().max() / 448
        if power_of_two:
            scale = torch.exp2(scale.log2().ceil())
        codes[here] = (block / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        scales[r, c] = scale
    return codes, scales


def dequantize_fp8(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    rows, columns = codes.shape
    spread = scales.repeat_interleave(FP8_BLOCK, 0)[:rows].repeat_interleave(FP8_BLOCK, 1)
    return codes.float() * spread[:, :columns]


def pack_experts(tensors: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Replaces each layer's experts by mlp.experts.gate_up_proj (E, 2I, H) and down_proj."""
    packed = {name: t for name, t in tensors.items() if ".experts." not in name}
    for prefix in {name.split("experts.")[0] for name in tensors if ".experts." in name}:

        def stack(part: str) -> torch.Tensor:
            names = (f"{prefix}experts.{i}.{part}_proj.weight" for i in range(count))
            return torch.stack([tensors[name] for name in names])

        packed[prefix + "experts.gate_up_proj"] = torch.cat((stack("gate"), stack("up")), 1)
        packed[prefix + "experts.down_proj"] = stack("down")
    return packed


def unpack_experts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    unpacked = {}
    for name, tensor in tensors.items():
        prefix, packed, part = name.rpartition("experts.")
        if packed and part == "gate_up_proj":
            for i, both in enumerate(tensor):
                gate, up = both.chunk(2)
                unpacked[f"{prefix}experts.{i}.gate_proj.weight"] = gate
                unpacked[f"{prefix}experts.{i}.up_proj.weight"] = up
        elif packed and part == "down_proj":
            for i, down in enumerate(tensor):
                unpacked[f"{prefix}experts.{i}.down_proj.weight"] = down
        else:
            unpacked[name] = tensor
    return unpacked


def encode(case: Case, weights: dict[str, torch.Tensor], random: np.random.Generator):
    """The tensors as they stand in the files."""
    power_of_two = case.config.get("quantization_config", {}).get("scale_fmt") == "ue8m0"
    stored = {}
    for name, weight in weights.items():
        if case.fp8 and is_fp8_in_published_models(name):
            stored[name], scales = quantize_fp8(weight, power_of_two, random)
            scale_dtype = torch.float8_e8m0fnu if power_of_two else torch.float32
            stored[name + "_scale_inv"] = scales.to(scale_dtype)
        elif name.endswith("e_score_correction_bias"):
            stored[name] = weight.to(DTYPES[case.bias_dtype])
        else:
            stored[name] = weight.to(DTYPES[case.dtype])
    if case.packed_experts:
        stored = pack_experts(stored, case.config["n_routed_experts"])
    return stored


def decode(case: Case, stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Float32 weights from stored tensors, one per expert, without the MTP module."""
    weights = {}
    for name, tensor in unpack_experts(stored).items():
        if name.endswith("_scale_inv"):
            continue
        scales = stored.get(name + "_scale_inv")
        weights[name] = tensor.float() if scales is None else dequantize_fp8(tensor, scales.float())
    num_layers = case.config["num_hidden_layers"]
    return {
        name: w
        for name, w in weights.items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < num_layers
    }


# What a wrong program would compute: proof that the case notices.


def variations(plain: plain_model.PlainConfig) -> dict[str, plain_model.PlainConfig]:
    """Wrong readings of this config, by name."""
    wrong = {}

    def add(name: str, **changes):
        wrong[name] = dataclasses.replace(plain, **changes)

    def add_yarn(name: str, **changes):
        add(name, yarn=dataclasses.replace(plain.yarn, **changes))

    if plain.yarn is not None:
        add("plain rope", yarn=None)
        # So long an original context that no pair is slowed down; the scale stays.
        untouched = plain.rope_theta ** (1 + 1 / plain.qk_rope_head_dim)
        length = int(2 * math.pi * max(plain.yarn.beta_fast, 1) * untouched) + 1
        add_yarn("plain rope frequencies", original_max_position_embeddings=length)
        if plain.yarn.mscale_all_dim:
            # With mscale_all_dim 0, the mscale that leaves the factor on cos and sin as it is.
            same = (plain_model.rope_magnitude(plain) - 1) / (0.1 * math.log(plain.yarn.factor))
            add_yarn("no YaRN factor in the softmax scale", mscale=same, mscale_all_dim=0.0)
        if plain_model.rope_magnitude(plain) != 1:
            add_yarn("no YaRN factor on cos and sin", mscale=plain.yarn.mscale_all_dim)
    if plain.rms_norm_eps != plain.latent_norm_eps:
        add("rms_norm_eps in the latent norms", latent_norm_eps=plain.rms_norm_eps)
        add("latent eps in all norms", rms_norm_eps=plain.latent_norm_eps)
    if plain.n_routed_experts is None:
        return wrong
    add("norm_topk_prob inverted", norm_topk_prob=not plain.norm_topk_prob)
    if plain.routed_scaling_factor != 1 and (
        plain.topk_method == "noaux_tc" or not plain.norm_topk_prob
    ):
        add("no routed_scaling_factor", routed_scaling_factor=1.0)
    if plain.n_group > 1:
        add("no groups", n_group=1)
        add("group score of the other method", group_score_width=3 - plain.group_score_width)
    if plain.topk_method == "noaux_tc":
        add("bias in the weights", bias_in_weights=True)
        add("no bias", bias_in_choice=False)
    if plain.topk_method == "noaux_tc" and plain.n_group > 1:
        add("excluded groups filled with 0", excluded_score=0.0)
    return wrong


# Variations that a case need not notice: they differ only with strongly negative biases.
OPTIONAL_VARIATIONS = {"excluded groups filled with 0"}


def measure_variations(plain, weights, ids: torch.Tensor) -> dict[str, float]:
    """By how much each wrong reading moves the logits: the largest difference."""
    right = plain_model.forward(plain, weights, ids).logits
    effects = {}
    for name, config in variations(plain).items():
        effect = (plain_model.forward(config, weights, ids).logits - right).abs().max().item()
        if name in OPTIONAL_VARIATIONS and effect == 0:
            continue
        if effect < MIN_VARIATION:
            raise Unlucky(f"would not notice '{name}'")
        effects[name] = three_digits(effect)
    return effects


# Prompts whose every choice is clear.


def last_margin(trace: plain_model.Trace) -> float:
    """The smallest gap by which an expert or a group was chosen for the last token."""
    return min(routing.margins[-1].item() for routing in trace.routing.values())


def draw_prompt(case: Case, plain, weights, length: int, random: np.random.Generator):
    """Random tokens, each drawn again until its experts are chosen by MIN_PROMPT_MARGIN.

    Also returns the smallest margin.
    """
    smallest = math.inf
    ids = torch.empty(0, dtype=torch.int64)
    for _ in range(length):
        for _ in range(200):
            token = torch.tensor([random.integers(case.config["vocab_size"])])
            longer = torch.cat((ids, token))
            margin = last_margin(plain_model.forward(plain, weights, longer))
            if margin >= MIN_PROMPT_MARGIN:
                ids, smallest = longer, min(smallest, margin)
                break
        else:
            raise Unlucky("no token with clear routing")
    return ids, smallest


def continue_greedily(plain, weights, ids: torch.Tensor):
    """The next NUM_GREEDY tokens (an end token does not stop them) and the smallest margins met."""
    greedy_margin, routing_margin = math.inf, math.inf
    prompt_length = len(ids)
    for _ in range(NUM_GREEDY):
        trace = plain_model.forward(plain, weights, ids)
        best = trace.logits[-1].topk(2)
        greedy_margin = min(greedy_margin, (best.values[0] - best.values[1]).item())
        routing_margin = min(routing_margin, last_margin(trace))
        if greedy_margin < MIN_GREEDY_MARGIN or routing_margin < MIN_CONTINUATION_MARGIN:
            raise Unlucky("a greedy token or its routing is chosen by too little")
        ids = torch.cat((ids, best.indices[:1]))
    return ids[prompt_length:], greedy_margin, routing_margin


@dataclasses.dataclass
class Draw:
    """A checkpoint's content and its prompts, all from one seed."""

    seed: int
    stored: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]  # as a program reads them, float32
    prompts: list[torch.Tensor]
    continuations: list[torch.Tensor]
    margins: dict[str, float]
    effects: dict[str, float]


def draw(case: Case, seed: int) -> Draw:
    random = np.random.default_rng(seed)
    stored = encode(case, draw_weights(case, random), random)
    weights = decode(case, stored)
    plain = plain_model.PlainConfig.from_json(case.config)
    exact = {name: w.double() for name, w in weights.items()}
    result = Draw(seed, stored, weights, [], [], {}, {})
    margins = []
    for length in PROMPT_LENGTHS:
        ids, prompt_margin = draw_prompt(case, plain, exact, length, random)
        tokens, greedy_margin, continuation_margin = continue_greedily(plain, exact, ids)
        result.prompts.append(ids)
        result.continuations.append(tokens)
        margins.append((prompt_margin, continuation_margin, greedy_margin))
    kinds = ("routing, prompt", "routing, continuation", "greedy token")
    result.margins = {kind: three_digits(min(m)) for kind, m in zip(kinds, zip(*margins))}
    result.effects = measure_variations(plain, exact, result.prompts[0])
    return result


def first_lucky_draw(case: Case) -> Draw:
    for seed in range(1000):
        try:
            return draw(case, seed)
        except Unlucky as reason:
            last_reason = reason
    raise RuntimeError(f"{case.name}: no seed will do; the last: {last_reason}")


# Expected values.


def disagreement(a: plain_model.Trace, b: plain_model.Trace) -> float:
    """Largest difference relative to the largest magnitude, over logits, states and weights."""

    def relative(x, y):
        return ((x.double() - y.double()).abs().max() / y.abs().max()).item()

    worst = max(relative(a.logits, b.logits), relative(a.hidden, b.hidden))
    for layer, routing in b.routing.items():
        if not torch.equal(a.routing[layer].experts, routing.experts):
            return math.inf
        worst = max(worst, relative(a.routing[layer].weights, routing.weights))
    return worst


def write_checkpoint(case: Case, directory: pathlib.Path, stored: dict[str, torch.Tensor]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    (directory / "config.json").write_text(json.dumps(case.config, indent=2) + "\n")
    stored = {name: t.contiguous().clone() for name, t in stored.items()}
    if case.num_shards == 1:
        safetensors.torch.save_file(stored, directory / "model.safetensors", {"format": "pt"})
        return
    weight_map = {}
    names = list(stored)
    for shard in range(case.num_shards):
        file = f"model-{shard + 1:05}-of-{case.num_shards:05}.safetensors"
        part = {name: stored[name] for name in names[shard :: case.num_shards]}
        safetensors.torch.save_file(part, directory / file, {"format": "pt"})
        weight_map |= {name: file for name in part}
    total_size = sum(t.numel() * t.element_size() for t in stored.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2) + "\n"
    (directory / "model.safetensors.index.json").write_text(text)


def run_native(case: Case, directory: pathlib.Path, drawn: Draw):
    """Traces of `transformers`, unrepaired and repaired, for each prompt."""
    plain = plain_model.PlainConfig.from_json(case.config)
    unchanged_files = case.config["model_type"] in ("deepseek_v2", "deepseek_v3") and not (
        case.packed_experts or case.fp8 or "rope_parameters" in case.config
    )
    model = native_model.build(directory, case.config, drawn.weights, unchanged_files)
    as_is = [native_model.forward(model, plain, ids) for ids in drawn.prompts]
    repaired = as_is
    if case.native_repairs:
        native_model.repair(model, plain, case.native_repairs)
        repaired = [native_model.forward(model, plain, ids) for ids in drawn.prompts]
    for ids, tokens in zip(drawn.prompts, drawn.continuations):
        logits = native_model.forward(model, plain, torch.cat((ids, tokens))).logits
        if not torch.equal(logits[len(ids) - 1 : -1].argmax(-1), tokens):
            raise RuntimeError(f"{case.name}: transformers continues with other tokens")
    return as_is, repaired


def write_case(case: Case, output: pathlib.Path) -> None:
    drawn = first_lucky_draw(case)
    directory = output / case.name
    write_checkpoint(case, directory, drawn.stored)

    plain = plain_model.PlainConfig.from_json(case.config)
    exact_weights = {name: w.double() for name, w in drawn.weights.items()}
    exact = [plain_model.forward(plain, exact_weights, ids) for ids in drawn.prompts]
    single = [plain_model.forward(plain, drawn.weights, ids) for ids in drawn.prompts]
    facts = {
        "purpose": case.purpose,
        "seed": drawn.seed,
        "authority": "plain_model.py, float64",
        "min_margins": drawn.margins,
        "max_abs_logit": three_digits(max(t.logits.abs().max().item() for t in exact)),
        "plain_float32_difference": three_digits(max(map(disagreement, single, exact))),
        "transformers": "does not apply",
        "effect_of_wrong_reading": drawn.effects,
    }
    traces = exact
    if case.native_applies:
        as_is, repaired = run_native(case, directory, drawn)
        difference = max(map(disagreement, repaired, exact))
        if difference > MAX_DISAGREEMENT:
            raise RuntimeError(f"{case.name}: transformers and plain_model differ: {difference}")
        if case.native_disagrees and max(map(disagreement, as_is, exact)) < 1e-3:
            raise RuntimeError(f"{case.name}: transformers is right without repair")
        facts["transformers"] = {
            "repairs": list(case.native_repairs),
            "relative_difference": three_digits(difference),
        }
        if not case.native_repairs:
            traces, facts["authority"] = as_is, "transformers, float32"

    expected = {}
    for p, (ids, tokens, trace) in enumerate(zip(drawn.prompts, drawn.continuations, traces)):
        expected[f"prompt.{p}.ids"] = ids.int()
        expected[f"prompt.{p}.greedy"] = tokens.int()
        expected[f"prompt.{p}.logits"] = trace.logits.float()
        expected[f"prompt.{p}.hidden"] = trace.hidden.float()
        for layer, routing in trace.routing.items():
            expected[f"prompt.{p}.layer.{layer}.experts"] = routing.experts.int()
            expected[f"prompt.{p}.layer.{layer}.weights"] = routing.weights.float()
        for layer, routing in exact[p].routing.items():
            expected[f"prompt.{p}.layer.{layer}.margins"] = routing.margins.float()
    expected = {name: t.contiguous() for name, t in expected.items()}
    safetensors.torch.save_file(expected, directory / "expected.safetensors")
    (directory / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")
    for file in directory.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in directory.iterdir())
    print(f"{case.name}: seed {drawn.seed}, {size / 1000:.0f} kB, {json.dumps(facts)}", flush=True)


def main() -> None:
    repository = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default_output = repository / "tests/golden/checkpoints"
    parser.add_argument("--output", type=pathlib.Path, default=default_output)
    parser.add_argument("cases", nargs="*", help="names; all cases if none is given")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for case in CASES:
        if not arguments.cases or case.name in arguments.cases:
            write_case(case, arguments.output)


if __name__ == "__main__":
    main()
