"""Writes tests/golden/gguf_blocks.safetensors: random blocks of each GGUF type, and their values.

    python tools/golden/gguf_blocks.py [--output FILE]

For each type T the tensors `T.blocks` (U8, blocks x bytes) and `T.values` (F32, blocks x elements,
by `gguf.quants.dequantize`). All bytes are random but the F16 scales, which are random finite
numbers: subnormal, ordinary and the largest ones, of both signs.
"""

from __future__ import annotations

import argparse
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

# Offsets of the F16 fields in a block.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
}
NUM_BLOCKS = 8
EXTREMES = [0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x0000, 0x8000]  # F16 bits


def random_blocks(name: str, rng: np.random.Generator) -> np.ndarray:
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    blocks = rng.integers(0, 256, (NUM_BLOCKS, size), dtype=np.uint8)
    for place in SCALES[name]:
        scales = rng.integers(0, 1 << 16, NUM_BLOCKS, dtype=np.uint16)
        scales = np.where((scales & 0x7C00) == 0x7C00, scales ^ 0x4000, scales)
        scales[: len(EXTREMES)] = rng.permutation(EXTREMES)
        blocks[:, place : place + 2] = scales.astype("<u2").view(np.uint8).reshape(-1, 2)
    return blocks


def main() -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=pathlib.Path, default=root / "tests/golden/gguf_blocks.safetensors"
    )
    args = parser.parse_args()
    rng = np.random.default_rng(20240514)
    tensors = {}
    for name in SCALES:
        blocks = random_blocks(name, rng)
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
        assert values.dtype == np.float32 and np.isfinite(values).all()
        tensors[f"{name}.blocks"] = blocks
        tensors[f"{name}.values"] = values
    save_file(tensors, args.output)


if __name__ == "__main__":
    main()
