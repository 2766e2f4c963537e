#!/usr/bin/env python3
"""Baleen, llama.cpp and its fork on one GGUF file, in turn in one run.

    bench/compare_llama.py MODEL.gguf [--threads 2] [--rounds 2] [--markdown FILE]

MODEL.gguf is what `baleen convert --type q4_0` writes. bench/llama_peer.py names the bindings that
the peers come from; one that is not installed is left out, and so are cases that --cases does not
name. Cases: `prefill N`, `decode N` (one sequence, N tokens in its context), `batch N` (N sequences
of --batch-context tokens that decode together), `serve N` (the same as N streams of `baleen serve`,
sampled and sent, and `batch N` of the peers, which sample nothing). Neither Baleen nor llama.cpp
really reads a context before it decodes at its end: Baleen's rows are random numbers
(`--assume-context`), llama.cpp's those of a short one, over and over. They cost the same.

With --lock FILE each measurement holds that file's lock, for machines on which others work too.
Prints tokens per second as median (min to max), our share of the roof (docs/performance.md) and the
ratio to the better peer.
"""

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
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


def bench_baleen(model, kind, size, threads, batch_context):
    """What `baleen bench --json` says of one case, and `peak_rss_bytes` of the process."""
    shape = {"prefill": ["--prompt", size, "--context", 1, "--generate", 1],
             "decode": ["--prompt", 1, "--context", size, "--generate", GENERATE,
                        "--assume-context"],
             "batch": ["--prompt", 1, "--context", batch_context, "--generate", GENERATE,
                       "--batch", size, "--assume-context"]}[kind]
    command = [PROGRAM, "bench", model, "--json", "--repeat", 1, "--threads", threads, *shape]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE)
    report = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"baleen bench failed on {kind} {size}")
    return json.loads(report) | {"peak_rss_bytes": usage.ru_maxrss * 1024}


def measure_baleen(model, kind, size, threads, lock, batch_context):
    """(tokens per second, share of the roof, bench_baleen's report)"""
    if kind == "serve":
        served = measure_served(model, size, threads, lock, batch_context)
        speed, share, report = measure_baleen(model, "batch", size, threads, lock, batch_context)
        print(f"served {served:.1f}, without a server {speed:.1f}", file=sys.stderr, flush=True)
        return served, share * served / speed, report
    with locked(lock):
        report = bench_baleen(model, kind, size, threads, batch_context)
    part = "prefill" if kind == "prefill" else "decode"
    return (report[f"{part}_tokens_per_s"]["median"], report["roofline_share"][part]["median"],
            report)


def measure_case(model, kind, size, rounds, libraries, threads, lock=None, batch_context=256):
    """Everybody in turn, `rounds` times: ({name: speeds}, our shares of the roof, our reports)."""
    speeds = {name: [] for name in ["baleen", *libraries]}
    shares, reports, failed = [], [], set()
    for _ in range(rounds):
        speed, share, report = measure_baleen(model, kind, size, threads, lock, batch_context)
        speeds["baleen"].append(speed)
        shares.append(share)
        reports.append(report)
        for name in libraries:
            if name in failed:
                continue
            speed = measure_in_child(name, model, kind, size, threads, lock, batch_context)
            if speed is None:
                failed.add(name)
            else:
                speeds[name].append(speed)
    return speeds, shares, reports


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
        speeds, shares, reports = measure_case(args.model, kind, int(size), args.rounds,
                                               args.libraries, args.threads, args.lock,
                                               args.batch_context)
        table.add(case, speeds, shares)
        print(f"{case}: " + ", ".join(f"{NAMES[n]} {spread(s)}" for n, s in speeds.items())
              + f"; roof {reports[-1]['roof']}", file=sys.stderr, flush=True)
    print(table.markdown(), end="")
    if args.markdown:
        args.markdown.write_text(table.markdown())


if __name__ == "__main__":
    main()
