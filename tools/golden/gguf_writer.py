"""Writes what the encoders of block types and the writer of GGUF files are held against.

    python tools/golden/gguf_writer.py [--output DIRECTORY]

* `gguf_quantized.safetensors`: `values` (F32, blocks x 32) and `Q8_0`, `Q4_0` (U8), what
  `gguf.quants.quantize` makes of them. Random blocks of many magnitudes, and edges: zeros of both
  signs, a largest value that comes with both signs, halves, scales that F16 holds barely or not.
* `gguf/writer.gguf`: one key of each type that Baleen writes and three tensors, by `gguf.GGUFWriter`.
  src/formats/gguf_writer_test.cc writes the same and compares the bytes.
"""

from __future__ import annotations

import argparse
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TYPES = {name: gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0")}


def edge_blocks() -> np.ndarray:
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)
    halves = (np.arange(32, dtype=np.float32) - 16) / 2
    halves_of_127 = halves.copy()
    halves_of_127[0] = 127  # d is 1: every other value lies between two codes
    both_signs = np.where(np.arange(32) % 2 == 0, np.float32(3), np.float32(-3))
    tiny = ramp * np.float32(1e-7)  # the scale is subnormal in F16
    return np.stack([
        np.zeros(32, np.float32), -np.zeros(32, np.float32), ramp, -ramp, halves, halves_of_127,
        both_signs, -both_signs, tiny, tiny * np.float32(1e-4), ramp * np.float32(60000),
        np.full(32, 0.1, np.float32), np.nextafter(halves, np.float32(-100)),
    ])


def write_quantized(output: pathlib.Path) -> None:
    rng = np.random.default_rng(20240514)
    scales = np.float32(10) ** rng.uniform(-6, 4, (200, 1)).astype(np.float32)
    random = rng.standard_normal((200, 32), dtype=np.float32) * scales
    values = np.concatenate([edge_blocks(), random])
    tensors = {"values": values}
    for name, kind in TYPES.items():
        tensors[name] = gguf.quants.quantize(values, kind)
    save_file(tensors, output / "gguf_quantized.safetensors")


def write_file(output: pathlib.Path) -> None:
    writer = gguf.GGUFWriter(output / "gguf" / "writer.gguf", "deepseek2")
    writer.add_uint32("test.uint", 4_000_000_000)
    writer.add_float32("test.float", 0.0707)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "Grüße, 世界")
    writer.add_array("test.strings", ["a", "", "bc d"])
    writer.add_array("test.ints", [1, -2, 3])
    ramp = np.arange(96, dtype=np.float32) / 7
    blocks = gguf.quants.quantize(ramp.reshape(3, 32), TYPES["Q8_0"])
    writer.add_tensor("stack.weight", blocks.reshape(3, 1, 34), raw_dtype=TYPES["Q8_0"])
    writer.add_tensor("norm.weight", ramp[:5])
    writer.add_tensor("matrix.weight", ramp[:6].reshape(2, 3).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "tests/golden")
    output = parser.parse_args().output
    write_quantized(output)
    write_file(output)


if __name__ == "__main__":
    main()
