#!/usr/bin/env python3
"""Baleen and transformers on one checkpoint, in turn in one run.

    bench/compare_transformers.py MODEL [--prompt 512] [--generate 16] [--rounds 3] [--threads N]

MODEL is a Hugging Face directory; tools/make_checkpoint writes one of any shape. Needs torch and
transformers as pinned in tools/golden/requirements.txt. transformers runs in FP32 and in BF16 and
the faster of the two counts, for prefill and for decode. Prints tokens per second as median (min to
max) and the ratios of the medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers

PROGRAM = Path(__file__).resolve().parent.parent / "build" / "release" / "baleen"


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


class Peer:
    """One model in transformers at one precision."""

    def __init__(self, path, dtype):
        self.name = str(dtype).removeprefix("torch.")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
        self.prefill, self.decode = [], []

    @torch.inference_mode()
    def run(self, prompt, generate):
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, self.model.config.vocab_size, (1, prompt), generator=generator)
        start = time.perf_counter()
        out = self.model(ids, use_cache=True, logits_to_keep=1)
        middle = time.perf_counter()
        cache = out.past_key_values
        for _ in range(generate):
            token = out.logits[:, -1:].argmax(-1)
            out = self.model(token, past_key_values=cache, use_cache=True, logits_to_keep=1)
        end = time.perf_counter()
        self.prefill.append(prompt / (middle - start))
        self.decode.append(generate / (end - middle))


def run_baleen(path, prompt, generate, threads):
    command = [PROGRAM, "bench", path, "--json", "--prompt", prompt, "--context", prompt,
               "--generate", generate, "--repeat", 1, "--threads", threads]
    result = subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    # FP32 takes twice the memory of the file, so the two precisions take turns as whole blocks, and
    # Baleen runs between all of their rounds.
    ours = {"prefill": [], "decode": []}
    peers = []
    for dtype in (torch.bfloat16, torch.float32):
        peer = Peer(args.model, dtype)
        peer.run(args.prompt, 1)  # warm-up
        peer.prefill, peer.decode = [], []
        for _ in range(args.rounds):
            peer.run(args.prompt, args.generate)
            result = run_baleen(args.model, args.prompt, args.generate, args.threads)
            ours["prefill"].append(result["prefill_tokens_per_s"]["median"])
            ours["decode"].append(result["decode_tokens_per_s"]["median"])
            print(f"{peer.name}: {peer.prefill[-1]:.1f} {peer.decode[-1]:.2f}, baleen: "
                  f"{ours['prefill'][-1]:.1f} {ours['decode'][-1]:.2f}", file=sys.stderr)
        del peer.model
        peers.append(peer)

    print(f"transformers {transformers.__version__}, torch {torch.__version__}, "
          f"{args.threads} threads, prompt {args.prompt}, generate {args.generate}")
    for phase in ("prefill", "decode"):
        best = max((getattr(peer, phase) for peer in peers), key=statistics.median)
        print(f"{phase:8} baleen {spread(ours[phase])}")
        for peer in peers:
            print(f"{'':8} {peer.name} {spread(getattr(peer, phase))}")
        ratio = statistics.median(ours[phase]) / statistics.median(best)
        print(f"{'':8} baleen / faster precision: {ratio:.2f}")


if __name__ == "__main__":
    main()
