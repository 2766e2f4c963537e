"""Writes tests/golden/training: losses, gradients and AdamW steps of tiny checkpoints by autograd.

    python tools/golden/training.py [--output DIR]

The weights are those of tests/golden/checkpoints. Arithmetic is float32 in the first,
float64 in the second.

  v2_lite, v3        `transformers`, repaired as checkpoint_cases.py says: the loss, the norm of each
                     tensor's gradient, and the losses of ten steps of AdamW with clipping.
  v2_group, v3_mtp   plain PyTorch on plain_model.py, which has what `transformers` lacks: V2's three
                     balance losses; V3's sequence-wise loss and an MTP module. All gradients.

Where both apply, their gradients are compared before anything is written.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

import native_model
import plain_model
from checkpoint_cases import CASES

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEQUENCES, LENGTH, STEPS = 2, 24, 10
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8}
WEIGHT_DECAY, MAX_GRAD_NORM = 0.1, 1.0
MTP_WEIGHT = 0.3
ALPHAS = {
    "v2_group": {"expert_alpha": 0.3, "device_alpha": 0.5, "communication_alpha": 0.2},
    "v3_mtp": {"sequence_alpha": 0.1},
}
MAX_DISAGREEMENT = 2e-5  # relative, of float32 and float64


def read(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    directory = ROOT / "tests/golden/checkpoints" / name
    weights = safetensors.torch.load_file(directory / "model.safetensors")
    config = json.loads((directory / "config.json").read_text())
    return config, {k: v.double() for k, v in weights.items()}


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def transformers_model(name: str):
    case = next(c for c in CASES if c.name == name)
    config, weights = read(name)
    model = native_model.build(None, config, weights, from_files=False)
    native_model.repair(model, plain_model.PlainConfig.from_json(config), case.native_repairs)
    return model


def transformers_loss(model, tokens):
    return cross_entropy(model(tokens[:, :-1], use_cache=False).logits, tokens[:, 1:])


def balance_slopes(scores, experts, config, alphas):
    """The factor of each expert's mean share, by the papers; a constant for the gradient."""
    length, num_experts = scores.shape
    k = experts.shape[1]
    one_hot = F.one_hot(experts, num_experts).sum(1).double()  # [T, E]
    f = num_experts / (k * length) * one_hot.sum(0)
    slope = alphas.get("expert_alpha", alphas.get("sequence_alpha")) * f
    if "device_alpha" in alphas:
        groups = config.n_group
        by_group = one_hot.view(length, groups, -1)
        mean = f.view(groups, -1).mean(1)
        sent = (by_group.sum(2) > 0).double().sum(0) * groups / (config.topk_group * length)
        per_group = alphas["device_alpha"] * mean + alphas["communication_alpha"] * sent
        slope = slope + per_group.repeat_interleave(num_experts // groups)
    return slope.detach()


def plain_layer(x, layer, config, weights, is_moe, alphas, balance):
    prefix = f"model.layers.{layer}."
    normed = plain_model.rms_norm(x, weights[prefix + "input_layernorm.weight"],
                                  config.rms_norm_eps)
    x = x + plain_model.attention(normed, config, weights, prefix + "self_attn.")
    normed = plain_model.rms_norm(x, weights[prefix + "post_attention_layernorm.weight"],
                                  config.rms_norm_eps)
    if not is_moe:
        return x + plain_model.swiglu(normed, weights, prefix + "mlp.")
    y, routing = plain_model.mixture(normed, config, weights, prefix + "mlp.")
    if alphas:
        logits = normed @ weights[prefix + "mlp.gate.weight"].T
        scores = logits.softmax(-1) if config.scoring_func == "softmax" else logits.sigmoid()
        slopes = balance_slopes(scores, routing.experts, config, alphas)
        shares = scores / scores.sum(-1, keepdim=True)
        balance.append((slopes * shares.mean(0)).sum())
    return x + y


def plain_losses(tokens, config, weights, alphas, num_mtp=0):
    """(main, MTP, balance) of one sequence: sums over targets for the first two."""
    balance = []
    inputs, targets = tokens[:-1], tokens[1:]
    x = weights["model.embed_tokens.weight"][inputs]
    for layer in range(config.num_hidden_layers):
        x = plain_layer(x, layer, config, weights, config.is_moe(layer), alphas, balance)
    hidden = plain_model.rms_norm(x, weights["model.norm.weight"], config.rms_norm_eps)
    main = F.cross_entropy(hidden @ weights["lm_head.weight"].T, targets, reduction="sum")
    mtp = torch.zeros((), dtype=torch.float64)
    if num_mtp:
        layer = config.num_hidden_layers
        prefix = f"model.layers.{layer}."
        embedded = weights["model.embed_tokens.weight"][targets]
        u = torch.cat([
            plain_model.rms_norm(embedded, weights[prefix + "enorm.weight"], config.rms_norm_eps),
            plain_model.rms_norm(hidden, weights[prefix + "hnorm.weight"], config.rms_norm_eps),
        ], -1) @ weights[prefix + "eh_proj.weight"].T
        out = plain_layer(u, layer, config, weights, True, alphas, balance)
        out = plain_model.rms_norm(out, weights[prefix + "shared_head.norm.weight"],
                                   config.rms_norm_eps)
        logits = out[:-1] @ weights["lm_head.weight"].T
        mtp = F.cross_entropy(logits, targets[1:], reduction="sum")
    return main, mtp, sum(balance, torch.zeros((), dtype=torch.float64))


def plain_run(name, tokens, alphas, num_mtp):
    config, weights = read(name)
    plain = plain_model.PlainConfig.from_json(config)
    for tensor in weights.values():
        tensor.requires_grad_(True)
    parts = [plain_losses(row, plain, weights, alphas, num_mtp) for row in tokens]
    num_targets = tokens.shape[0] * (tokens.shape[1] - 1)
    main, mtp, balance = (sum(p[i] for p in parts) for i in range(3))
    total = (main + MTP_WEIGHT * mtp) / num_targets + balance / len(parts)
    total.backward()
    grads = {k: v.grad for k, v in weights.items() if v.grad is not None}
    losses = {"loss": main.item() / num_targets, "mtp_loss": mtp.item() / num_targets,
              "balance_loss": balance.item() / len(parts)}
    return losses, grads


def ten_steps(name, tokens):
    model = transformers_model(name)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY},
         {"params": others, "weight_decay": 0.0}], **ADAMW)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = transformers_loss(model, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        losses.append(loss.item())
    return losses


def write_transformers(name, directory, generator):
    vocab = read(name)[0]["vocab_size"]
    tokens = torch.randint(0, vocab, (SEQUENCES, LENGTH + 1), generator=generator)
    model = transformers_model(name)
    loss = transformers_loss(model, tokens)
    loss.backward()
    grads = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    plain_loss, plain_grads = plain_run(name, tokens, {}, 0)
    assert abs(loss.item() - plain_loss["loss"]) < MAX_DISAGREEMENT
    for key, grad in grads.items():
        error = (grad - plain_grads[key]).norm() / (grad.norm() + 1e-12)
        assert error < MAX_DISAGREEMENT or grad.norm() < 1e-12, (name, key, error)
    result = {
        "loss": loss.item(),
        "grad_norms": {k: g.norm().item() for k, g in sorted(grads.items())},
        "tokens": tokens.flatten().tolist(),
        "sequence_length": LENGTH,
        "losses": ten_steps(name, tokens),
    }
    (directory / f"{name}.json").write_text(json.dumps(result) + "\n")


def write_plain(name, directory, generator):
    config = read(name)[0]
    tokens = torch.randint(0, config["vocab_size"], (SEQUENCES, LENGTH + 1), generator=generator)
    num_mtp = config.get("num_nextn_predict_layers", 0)
    losses, grads = plain_run(name, tokens, ALPHAS[name], num_mtp)
    tensors = {k: g.float().contiguous() for k, g in grads.items()}
    safetensors.torch.save_file(tensors, directory / f"{name}.safetensors")
    result = losses | ALPHAS[name] | {"mtp_weight": MTP_WEIGHT, "sequence_length": LENGTH,
                                      "tokens": tokens.flatten().tolist()}
    (directory / f"{name}.json").write_text(json.dumps(result) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "tests/golden/training")
    directory = parser.parse_args().output
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(20)
    for name in ("v2_lite", "v3"):
        write_transformers(name, directory, generator)
    for name in ALPHAS:
        write_plain(name, directory, generator)


if __name__ == "__main__":
    main()
