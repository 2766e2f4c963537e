#!/usr/bin/env python3
"""Shows that llama.cpp loads the files of `baleen convert` and computes what we compute.

    bench/check_llama.py [--peer llama_cpp] [--keep DIRECTORY]

Needs the bindings that bench/llama_peer.py names, `gguf`, and the programs in build/release. llama.cpp takes a model without q_lora_rank only if it has 26 or 27 layers, so there
are four models:

* lite: V2-Lite's metadata (27 layers, YaRN, softmax, no q_lora_rank), small and random;
* lora: V3's kind (q_lora_rank, sigmoid, bias), small and random; every token has all experts;
* groups: the same with 4 of 16 experts in 2 of 4 groups;
* stories: models/baleen-stories-mini, trained, with 21 layers behind its own that add nothing.

For each: every tensor of the Q8_0 and Q4_0 files is, byte for byte, what `gguf.quants.quantize`
makes of the weights; then 200 tokens, and at every position the best token by llama.cpp is ours in
Q8_0 wherever our best leads our second best by more than 0.1. With groups of experts there are
exceptions: where a router has a near tie, rounding to 8 bits decides one way or the other, and other
experts answer. There the logits of the BF16 files must agree. For `stories` the tokens that
llama.cpp chooses after a beginning are printed as text.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from llama_peer import LIBRARIES, Peer

ROOT = pathlib.Path(__file__).resolve().parent.parent
BALEEN = ROOT / "build/release/baleen"
MAKE = ROOT / "build/release/tools/make_checkpoint/baleen-make-checkpoint"
STORIES = ROOT / "models/baleen-stories-mini"
MARGIN = 0.1
NUM_TOKENS = 200

COMMON = {
    "vocab_size": 512, "hidden_size": 512, "intermediate_size": 256, "moe_intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 16,
    "n_shared_experts": 2, "kv_lora_rank": 128, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64,
    "v_head_dim": 64, "first_k_dense_replace": 1, "moe_layer_freq": 1, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "rope_theta": 10000, "attention_bias": False,
    "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
    "max_position_embeddings": 4096,
}
YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 1024, "beta_fast": 32,
        "beta_slow": 1}
LITE = COMMON | {
    "model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"],
    "num_hidden_layers": 27, "q_lora_rank": None, "num_experts_per_tok": 6, "n_group": 1,
    "topk_group": 1, "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False,
    "routed_scaling_factor": 1.0, "rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
}
LORA = COMMON | {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 4, "q_lora_rank": 192, "num_experts_per_tok": 16, "n_group": 1,
    "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
    "routed_scaling_factor": 2.5, "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
}
GROUPS = LORA | {"num_experts_per_tok": 4, "n_group": 4, "topk_group": 2}


def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{command[0]} failed: {result.stderr.strip()}")
    return result.stdout


def make_random(config, directory):
    directory.mkdir()
    path = directory.with_suffix(".json")
    path.write_text(json.dumps(config))
    run(MAKE, "--config", path, "--dtype", "bf16", "--seed", 3, directory)


def read_safetensors(directory):
    """name -> (dtype, shape, bytes)"""
    tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                tensors[name] = entry["dtype"], entry["shape"], content[begin:end]
    return tensors


def write_safetensors(tensors, file):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def to_f32(dtype, shape, content):
    if dtype == "BF16":
        bits = np.frombuffer(content, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    kind = {"F32": np.float32, "F16": np.float16}[dtype]
    return np.frombuffer(content, kind).astype(np.float32).reshape(shape)


def make_stories(directory):
    """The trained model with layers behind its own whose outputs are zero."""
    shutil.copytree(STORIES, directory)
    config = json.loads((directory / "config.json").read_text())
    own = config["num_hidden_layers"]
    config["num_hidden_layers"] = 27
    (directory / "config.json").write_text(json.dumps(config))
    tensors = read_safetensors(directory)
    for file in directory.glob("*.safetensors*"):
        file.unlink()
    last = f"model.layers.{own - 1}."
    for name in [name for name in tensors if name.startswith(last)]:
        dtype, shape, content = tensors[name]
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            content = bytes(len(content))
        for layer in range(own, 27):
            tensors[name.replace(last, f"model.layers.{layer}.")] = dtype, shape, content
    write_safetensors(tensors, directory / "model.safetensors")


def expected_weight(name, weights, config):
    """What the tensor of that name in the file stands for, by the mapping of the `gguf` package."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.DEEPSEEK2, config["num_hidden_layers"])
    nope, dv = config["qk_nope_head_dim"], config["v_head_dim"]
    stem, suffix = name.rsplit(".", 1)
    for source, values in weights.items():
        if source.endswith("kv_b_proj.weight"):
            by_head = values.reshape(config["num_attention_heads"], nope + dv, -1)
            layer = source.split(".")[2]
            if name == f"blk.{layer}.attn_k_b.weight":
                return by_head[:, :nope].transpose(0, 2, 1)
            if name == f"blk.{layer}.attn_v_b.weight":
                return by_head[:, nope:]
        elif ".experts.0." in source:
            parts = source.split(".experts.0.")
            merged = f"{parts[0]}.experts.{parts[1].removesuffix('.weight')}"
            if names.get_name(merged) == stem:
                count = config["n_routed_experts"]
                return np.stack([weights[source.replace(".experts.0.", f".experts.{i}.")]
                                 for i in range(count)])
        elif ".experts." not in source:
            bare = source.removesuffix(".weight").removesuffix(".bias")
            if names.get_name(bare) == stem or source.endswith(
                    "e_score_correction_bias") and suffix == "bias" and (
                    source.split(".")[2] == name.split(".")[1]):
                return values
    raise KeyError(name)


def check_bytes(file, directory):
    config = json.loads((directory / "config.json").read_text())
    weights = {name: to_f32(*tensor) for name, tensor in read_safetensors(directory).items()}
    reader = gguf.GGUFReader(file)
    for tensor in reader.tensors:
        weight = np.ascontiguousarray(expected_weight(tensor.name, weights, config))
        wanted = gguf.quants.quantize(weight, tensor.tensor_type)
        if wanted.tobytes() != tensor.data.tobytes():
            sys.exit(f"{file.name}: {tensor.name} differs from what gguf makes of the weights")
    return len(reader.tensors)


def our_logits(file, ids):
    text = run(BALEEN, "evaluate", file, "--task", "logits", "--json", "--token-ids",
               ",".join(map(str, ids)))
    return np.array(json.loads(text)["logits"], dtype=np.float32)


def their_logits(peer, ids):
    peer.clear()
    peer.decode([(token, i, 0, 1) for i, token in enumerate(ids)])
    return np.stack([peer.logits(i) for i in range(len(ids))])


def check_tokens(name, library, files, ids):
    """The peer with the Q8_0 file."""
    peer = Peer(library, files["q8_0"], context=1024, batch=512, threads=1)
    theirs, ours = their_logits(peer, ids), our_logits(files["q8_0"], ids)
    second, first = np.sort(ours, axis=1)[:, -2:].T
    clear = first - second > MARGIN
    same = ours.argmax(1) == theirs.argmax(1)
    difference = np.abs(ours - theirs).max(axis=1)
    print(f"  {files['q8_0'].name}: {clear.sum()} of {len(ids)} positions have a margin above "
          f"{MARGIN}; the best token is the same at {(same & clear).sum()} of them, at {same.sum()} "
          f"of all; largest difference of logits: median {np.median(difference):.3f}, maximum "
          f"{difference.max():.3f} (they spread by {ours.std():.2f})")
    if clear.sum() < len(ids) // 10:
        sys.exit(f"{name}: too few clear positions to show anything")
    others = np.flatnonzero(clear & ~same)
    if others.size > 0:
        wide = Peer(library, files["bf16"], context=1024, batch=512, threads=1)
        difference = np.abs(our_logits(files["bf16"], ids) - their_logits(wide, ids)).max(axis=1)
        print(f"  in BF16 the logits at the other positions, {others.tolist()}, differ by at most "
              f"{difference[others].max():.3f}")
        if name in ("lite", "lora") or difference[others].max() > MARGIN:
            sys.exit(f"{name}: other tokens")
    return peer


def greedy(peer, ids, count):
    peer.clear()
    peer.decode([(token, i, 0, i == len(ids) - 1) for i, token in enumerate(ids)])
    row, chosen = len(ids) - 1, []
    for _ in range(count):
        chosen.append(int(peer.logits(row).argmax()))
        peer.decode([(chosen[-1], len(ids) + len(chosen) - 1, 0, 1)])
        row = 0
    return chosen


def check_model(name, directory, library):
    print(name)
    config = json.loads((directory / "config.json").read_text())
    files = {kind: directory.with_name(f"{name}-{kind}.gguf") for kind in ("q8_0", "q4_0", "bf16")}
    for kind, file in files.items():
        run(BALEEN, "convert", directory, file, "--type", kind)
        print(f"  {file.name}: {check_bytes(file, directory)} tensors are gguf's, byte for byte")
    if name == "stories":
        text = "Once upon a time there was a little girl named Lily. She had a red ball."
        result = json.loads(run(BALEEN, "run", files["q8_0"], "--raw", "-p", text, "--json",
                                "--max-tokens", NUM_TOKENS, "--temperature", 0))
        choice = result["choices"][0]
        ids = (choice["prompt_token_ids"] + choice["token_ids"])[:NUM_TOKENS]
    else:
        ids = np.random.default_rng(7).integers(2, config["vocab_size"], NUM_TOKENS).tolist()
    peer = check_tokens(name, library, files, ids)
    if name == "stories":
        start = choice["prompt_token_ids"]
        chosen = greedy(peer, start, 40)
        text = run(BALEEN, "tokenizer", "decode", directory, "--ids", ",".join(map(str, chosen)))
        print(f"  llama.cpp goes on: {text.strip()!r}")
        differs = [a != b for a, b in zip(choice["token_ids"], chosen)]
        print(f"  our tokens for {differs.index(True) if True in differs else len(differs)} tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=LIBRARIES, default="llama_cpp")
    parser.add_argument("--keep", type=pathlib.Path, help="directory for the models")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or pathlib.Path(scratch)
        root.mkdir(exist_ok=True)
        make_random(LITE, root / "lite")
        make_random(LORA, root / "lora")
        make_random(GROUPS, root / "groups")
        make_stories(root / "stories")
        for name in ("lite", "lora", "groups", "stories"):
            check_model(name, root / name, args.peer)


if __name__ == "__main__":
    main()
