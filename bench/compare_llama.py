#!/usr/bin/env python3
"""Baleen, llama.cpp and its fork on one GGUF file, in turn in one run.

    bench/compare_llama.py MODEL.gguf [--threads 2] [--rounds 2] [--markdown FILE] [--plot FILE.svg]

MODEL.gguf is what `baleen convert --type q4_0` writes. bench/llama_peer.py names the bindings that
the peers come from; one that is not installed is left out, and so are cases that --cases does not
name. Cases: `prefill N`, `decode N` (one sequence, N tokens in its context), `batch N` (N sequences
of --batch-context tokens that decode together), `serve N` (the same as N streams of `baleen serve`,
sampled and sent, and `batch N` of the peers, which sample nothing). llama.cpp does not really read a long context before it decodes
at its end: its cache is filled with the rows of a short one, over and over, which cost the same.

With --lock FILE each measurement holds that file's lock, for machines on which others work too.
Prints tokens per second as median (min to max), our share of the roof (docs/performance.md) and the
ratio to the better peer.
"""

import argparse
import contextlib
import ctypes
import fcntl
import json
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import time

from llama_peer import LIBRARIES, Peer

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "build" / "release" / "baleen"
NAMES = {"baleen": "baleen", "llama_cpp": "llama.cpp", "ik_llama_cpp": "ik_llama.cpp"}
CASES = ("prefill 512", "prefill 4096", "decode 1", "decode 8192", "decode 32768", "batch 8",
         "batch 16", "batch 32")
FILL = 256  # rows that are repeated to fill a peer's cache
GENERATE = 16


@contextlib.contextmanager
def locked(path):
    if not path:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tokens(peer, count):
    return [random.randrange(2, peer.vocab_size) for _ in range(count)]


def read_prompt(peer, count, sequence=0):
    """Reads a prompt in pieces of the peer's batch."""
    ids = tokens(peer, count)
    for begin in range(0, count, 512):
        part = ids[begin : begin + 512]
        peer.decode([(token, begin + i, sequence, begin + i == count - 1)
                     for i, token in enumerate(part)])


class State:
    """The saved state of one sequence in llama.cpp, whose rows can be repeated.

    Layout (llama-kv-cache.cpp, state_write): words before the cells, then u32 cells, for each
    i32 position, u32 number of sequences (1) and i32 sequence; u32 transposed, u32 layers; for each layer of keys,
    then of values if they are kept, i32 type, u64 bytes of a row, rows.
    """

    def __init__(self, content, cells):
        self.cells = cells
        metadata = self.metadata(cells)
        self.begin = content.find(struct.pack("<I", cells) + metadata)
        if self.begin < 0:
            raise ValueError("the state has another layout")
        self.head = content[: self.begin]
        self.rest = content[self.begin + 4 + len(metadata) :]

    @staticmethod
    def metadata(cells):
        return b"".join(struct.pack("<iIi", i, 1, 0) for i in range(cells))

    def repeated(self, cells):
        times = cells // self.cells
        out = [self.head, struct.pack("<I", cells), self.metadata(cells)]
        transposed, layers = struct.unpack_from("<II", self.rest)
        if transposed:
            raise ValueError("values are kept transposed")
        out.append(self.rest[:8])
        at = 8
        while at < len(self.rest):
            (row,) = struct.unpack_from("<Q", self.rest, at + 4)
            end = at + 12 + row * self.cells
            if row == 0 or end > len(self.rest):
                raise ValueError("the state has another layout")
            out += [self.rest[at : at + 12], self.rest[at + 12 : end] * times]
            at = end
        return b"".join(out)


def fill(peer, count):
    """Puts `count` rows into the cache of sequence 0."""
    if count <= 2 * FILL:
        read_prompt(peer, count)
        return
    if peer.is_fork:
        read_prompt(peer, count)
        return
    read_prompt(peer, FILL)
    api = peer.api
    size = api.llama_state_seq_get_size(peer.context, 0)
    buffer = (ctypes.c_uint8 * size)()
    api.llama_state_seq_get_data(peer.context, buffer, size, 0)
    content = State(bytes(buffer), FILL).repeated(count)
    peer.clear()
    buffer = (ctypes.c_uint8 * len(content)).from_buffer_copy(content)
    if api.llama_state_seq_set_data(peer.context, buffer, len(content), 0) == 0:
        raise ValueError("the state was refused")


def measure_peer(library, model, kind, size, threads, lock, batch_context):
    """Tokens per second of one case."""
    kind = "batch" if kind == "serve" else kind
    sequences = size if kind == "batch" else 1
    context = {"prefill": size, "decode": size + 64, "batch": size * (batch_context + 64)}[kind]
    context = (context + 255) // 256 * 256
    peer = Peer(library, model, context=context, sequences=sequences, threads=threads)
    read_prompt(peer, 32)
    peer.clear()
    if kind == "prefill":
        with locked(lock):
            begin = time.perf_counter()
            read_prompt(peer, size)
            return size / (time.perf_counter() - begin)
    if kind == "decode":
        fill(peer, size)
        position = size
    else:
        for sequence in range(sequences):
            read_prompt(peer, batch_context, sequence)
        position = batch_context
    with locked(lock):
        for step in range(GENERATE + 2):
            if step == 2:
                begin = time.perf_counter()
            peer.decode([(token, position + step, sequence, 1)
                         for sequence, token in enumerate(tokens(peer, sequences))])
        return GENERATE * sequences / (time.perf_counter() - begin)


def measure_in_child(library, model, kind, size, threads, lock, batch_context):
    """A process for each, so that no library sees the other's memory. None: it failed."""
    command = [sys.executable, __file__, model, "--worker", library, kind, str(size), "--threads",
               str(threads), "--batch-context", str(batch_context)]
    command += ["--lock", lock] if lock else []
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        print(f"{NAMES[library]}, {kind} {size}: {result.stderr.strip().splitlines()[-1:]}",
              file=sys.stderr)
        return None
    return float(result.stdout.split()[-1])  # the libraries talk as well


def measure_served(model, size, threads, lock, batch_context):
    """Tokens per second of so many streams, while all of them grow. Those that began get tokens between
    the layers of the others' prompts, so the last begins late: hence the many tokens."""
    command = [sys.executable, pathlib.Path(__file__).with_name("serve_load.py"), PROGRAM, model,
               "--only", "batch", "--streams", size, "--prompt", batch_context, "--tokens",
               8 * size, "--serve", f"--threads {threads} --max-sequences {size}"]
    with locked(lock):
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"serve {size}: {result.stdout}{result.stderr}")
    return json.loads(result.stdout)["tokens_per_s"]


def measure_baleen(model, kind, size, threads, lock, batch_context):
    """(tokens per second, share of the roof, the roof)"""
    if kind == "serve":
        served = measure_served(model, size, threads, lock, batch_context)
        speed, share, roof = measure_baleen(model, "batch", size, threads, lock, batch_context)
        print(f"served {served:.1f}, without a server {speed:.1f}", file=sys.stderr, flush=True)
        return served, share * served / speed, roof
    shape = {"prefill": ["--prompt", size, "--context", 1, "--generate", 1],
             "decode": ["--prompt", 1, "--context", size, "--generate", GENERATE],
             "batch": ["--prompt", 1, "--context", batch_context, "--generate", GENERATE,
                       "--batch", size]}[kind]
    command = [PROGRAM, "bench", model, "--json", "--repeat", 1, "--threads", threads, *shape]
    with locked(lock):
        result = subprocess.run([str(part) for part in command], check=True, capture_output=True)
    report = json.loads(result.stdout)
    part = "prefill" if kind == "prefill" else "decode"
    return (report[f"{part}_tokens_per_s"]["median"], report["roofline_share"][part]["median"],
            report["roof"])


def spread(values):
    if not values:
        return "–"
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


class Table:
    def __init__(self, libraries):
        self.libraries = libraries
        self.rows = []  # (case, {name: speeds}, shares)

    def add(self, case, speeds, shares):
        self.rows.append((case, speeds, shares))

    def markdown(self):
        names = [NAMES[name] for name in self.libraries]
        lines = ["| tokens/s | baleen | of the roof | " + " | ".join(names) + " | to the better |",
                 "|---" * (4 + len(names)) + "|"]
        for case, speeds, shares in self.rows:
            peers = [statistics.median(speeds[name]) for name in self.libraries if speeds[name]]
            ours = statistics.median(speeds["baleen"])
            ratio = f"{ours / max(peers):.2f}×" if peers else "–"
            lines.append("| " + " | ".join(
                [case, spread(speeds["baleen"]), f"{statistics.median(shares) * 100:.0f} %"]
                + [spread(speeds[name]) for name in self.libraries] + [ratio]) + " |")
        return "\n".join(lines) + "\n"

    def svg(self):
        """Speeds beside the roof: for each case a bar for each program, the roof a line."""
        left, width, bar, gap = 120, 520, 14, 14
        count = 1 + len(self.libraries)
        colors = ["#1f6f8b", "#c8963e", "#8c6bb1"]
        parts, top = [], 30
        for case, speeds, shares in self.rows:
            ours = statistics.median(speeds["baleen"])
            roof = ours / statistics.median(shares) if statistics.median(shares) > 0 else ours
            parts.append(f'<text x="{left - 8}" y="{top + count * bar / 2 + 4}" '
                         f'text-anchor="end">{case}</text>')
            for i, name in enumerate(["baleen", *self.libraries]):
                if not speeds[name]:
                    continue
                speed = statistics.median(speeds[name])
                length = min(speed / roof, 1.2) * width / 1.2
                y = top + i * bar
                parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" '
                             f'fill="{colors[i]}"/><text x="{left + length + 4:.1f}" '
                             f'y="{y + bar - 4}">{speed:.1f}</text>')
            x = left + width / 1.2
            parts.append(f'<line x1="{x}" x2="{x}" y1="{top - 2}" y2="{top + count * bar}" '
                         'stroke="#333" stroke-dasharray="3 2"/>')
            top += count * bar + gap
        for i, name in enumerate(["baleen", *self.libraries]):
            parts.append(f'<rect x="{left + i * 130}" y="6" width="10" height="10" '
                         f'fill="{colors[i]}"/><text x="{left + i * 130 + 14}" y="15">'
                         f'{NAMES[name]}</text>')
        parts.append(f'<text x="{left + width / 1.2}" y="{top + 4}" text-anchor="middle">'
                     'roof</text>')
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" '
                f'height="{top + 16}" font-family="sans-serif" font-size="11">'
                f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cases", nargs="+", default=CASES, help='such as "prefill 512"')
    parser.add_argument("--batch-context", type=int, default=256)
    parser.add_argument("--libraries", nargs="*", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--lock", help="file to lock while measuring")
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    random.seed(1)
    if args.worker:
        library, kind, size = args.worker
        print(measure_peer(library, args.model, kind, int(size), args.threads, args.lock,
                           args.batch_context))
        return
    table = Table(args.libraries)
    for case in args.cases:
        kind, size = case.split()
        speeds = {name: [] for name in ["baleen", *args.libraries]}
        shares, failed = [], set()
        for _ in range(args.rounds):
            speed, share, roof = measure_baleen(args.model, kind, int(size), args.threads,
                                                args.lock, args.batch_context)
            speeds["baleen"].append(speed)
            shares.append(share)
            for name in args.libraries:
                if name in failed:
                    continue
                speed = measure_in_child(name, args.model, kind, int(size), args.threads,
                                         args.lock, args.batch_context)
                if speed is None:
                    failed.add(name)
                else:
                    speeds[name].append(speed)
        table.add(case, speeds, shares)
        print(f"{case}: " + ", ".join(f"{NAMES[n]} {spread(s)}" for n, s in speeds.items())
              + f"; roof {roof}", file=sys.stderr, flush=True)
    print(table.markdown(), end="")
    if args.markdown:
        args.markdown.write_text(table.markdown())
    if args.plot:
        args.plot.write_text(table.svg())


if __name__ == "__main__":
    main()
