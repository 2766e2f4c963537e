#!/usr/bin/env python3
"""Measures what docs/performance.md has a bar for, and writes its table and its roofline plot.

    bench/report.py measure MODEL --label NAME [--cases "decode 1" ...] [--rounds 3]
                            [--libraries llama_cpp ik_llama_cpp] --machine TEXT
    bench/report.py write

`measure` runs cases of bench/compare_llama.py on a model, and `first token`, and puts each into
bench/results.json in the place of what was measured before: a case at a time, if the machine is
rarely free. `prefill 512` reads every expert, so the memory that it takes is kept as `memory`.
`write` makes of that file the table between two marks of docs/performance.md, in which a case
without a measurement says so, and docs/roofline.svg. `write` needs matplotlib (PyPI); the file is
the same for the same results.
"""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import subprocess
import time

import compare_llama
from llama_peer import LIBRARIES

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "roofline.svg"
BEGIN, END = "<!-- bench/report.py: begin -->\n", "<!-- bench/report.py: end -->\n"
CASES = (*compare_llama.CASES, "memory", "first token")
COLOURS = {"prefill": "#2a78d6", "decode": "#eb6834", "batch": "#1b9e77"}
MARKERS = "os^Dv"


def wanted(case, quantization):
    """The bar, as people read it."""
    kind, size = case.split()[0], case.split()[-1]
    if kind == "prefill":  # groups of 128, or blocks of 32
        return "45 %" if quantization.startswith("GPTQ") else "35 %"
    return {"decode": "70 %" if size == "1" else "60 %", "batch": "60 %", "memory": "1.05 ×",
            "first": "1 s"}[kind]


def seconds_to_first_token(model, threads):
    """Of the whole process, its start included."""
    command = [compare_llama.PROGRAM, "run", model, "--raw", "-p", "hello", "--max-tokens", "1",
               "--threads", threads]
    begin = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure(options):
    """Adds records to the results file after each case, so that none is lost."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    random.seed(1)
    for case in options.cases:
        record = {"date": datetime.date.today().isoformat(), "machine": options.machine}
        if case == "first token":
            record["seconds"] = [seconds_to_first_token(options.model, options.threads)
                                 for _ in range(options.rounds)]
            results.setdefault(options.label, {})[case] = record
        else:
            kind, size = case.split()
            speeds, shares, reports = compare_llama.measure_case(
                options.model, kind, int(size), options.rounds, options.libraries, options.threads)
            last = reports[-1]
            work = last["work"]["prefill" if kind == "prefill" else "decode"]
            record |= {"quantization": last["quantization"], "threads": last["threads"],
                       "isa": last["isa"], "tokens_per_s": speeds, "shares": shares, "work": work,
                       "roofs": [report["roof"] for report in reports]}
            results.setdefault(options.label, {})[case] = record
            if case == "prefill 512":
                allowed = last["weight_bytes"] + last["prompt"] * last["cache_bytes_per_token"]
                results[options.label]["memory"] = {
                    "date": record["date"], "machine": record["machine"], "allowed_bytes": allowed,
                    "peak_bytes": max(report["peak_rss_bytes"] for report in reports)}
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(f"{options.label}, {case}: {cells(case, record)[0]}, "
              f"{cells(case, record)[1]} of the roof", flush=True)


def spread(values, digits, unit):
    middle = f"{statistics.median(values):.{digits}f}{unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def cells(case, record):
    """Result, share of the roof, and the peers' results."""
    if case == "memory":
        ratio = record["peak_bytes"] / record["allowed_bytes"]
        return [f"{record['peak_bytes'] / 1e9:.2f} GB, {ratio:.2f} × weights and cache", "–", "–",
                "–"]
    if case == "first token":
        return [spread(record["seconds"], 2, " s"), "–", "–", "–"]
    speeds = record["tokens_per_s"]
    return [spread(speeds["baleen"], 1, ""), f"{100 * statistics.median(record['shares']):.0f} %",
            *(spread(speeds[name], 1, "") if speeds.get(name) else "–" for name in LIBRARIES)]


def table(results):
    peers = " | ".join(compare_llama.NAMES[name] for name in LIBRARIES)
    lines = [f"| model | case | tokens/s | of the roof | wanted | {peers} | machine, date |",
             "|---" * 8 + "|"]
    for label, records in results.items():
        quantization = next((r["quantization"] for r in records.values() if "quantization" in r),
                            "")
        for case in (case for case in CASES if case in records):
            record = records[case]
            result, share, *theirs = cells(case, record)
            lines.append("| " + " | ".join([label, case, result, share, wanted(case, quantization),
                                            *theirs, f"{record['machine']}, {record['date']}"])
                         + " |")
        if missing := [case for case in CASES if case not in records]:
            lines.append(f"| {label} | {', '.join(missing)} | not measured |" + " – |" * 5)
    return "\n".join(lines) + "\n"


def plot(results):
    """Operations for each byte that is read, against operations in a second. Ceilings: medians of
    what the runs measured, each in its own beginning, with the range of them."""
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as pyplot
    matplotlib.rcParams |= {"svg.hashsalt": "roofline", "svg.fonttype": "none", "font.size": 9}
    figure, axes = pyplot.subplots(figsize=(7.5, 4.6))
    roofs = []
    for i, (label, records) in enumerate(results.items()):
        for case, record in records.items():
            if "roofs" not in record:
                continue
            roofs += record["roofs"]
            kind, size = case.split()
            operations = record["work"]["operations_per_token"]
            x = operations / record["work"]["bytes_per_token"]
            y = operations * statistics.median(record["tokens_per_s"]["baleen"]) / 1e9
            axes.plot(x, y, MARKERS[i % len(MARKERS)], color=COLOURS[kind], markersize=6,
                      markeredgecolor="white", zorder=3)
            axes.annotate(size, (x, y), xytext=(5, -9), textcoords="offset points", fontsize=7,
                          color="#444444")
        axes.plot([], [], MARKERS[i % len(MARKERS)], color="#767676", label=label)
    for kind, colour in COLOURS.items():
        axes.plot([], [], color=colour, linewidth=5, label=kind)
    right = max(1024, axes.get_xlim()[1] * 4)
    xs = [0.5 * (right / 0.5) ** (i / 60) for i in range(61)]
    reads = [roof["read_gb_per_s"] for roof in roofs]
    for key, name, colour in (("gops_i8", "8-bit products", "#333333"),
                              ("gflops_f32", "F32 products", "#999999")):
        peaks = [roof[key] for roof in roofs]
        middle, low, high = ([min(of(peaks), x * of(reads)) for x in xs]
                             for of in (statistics.median, min, max))
        axes.plot(xs, middle, color=colour, linewidth=1.2, zorder=2)
        axes.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.annotate(name, (right, middle[-1]), xytext=(-4, 3), ha="right",
                      textcoords="offset points", color=colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(xs[0], right)
    axes.set_xlabel("operations for each byte of weights and cache")
    axes.set_ylabel("10⁹ operations a second")
    axes.grid(which="major", color="#e5e5e5", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None, "Creator": None})
    PLOT.write_text("\n".join(line.rstrip() for line in PLOT.read_text().splitlines()) + "\n")


def write():
    results = json.loads(RESULTS.read_text())
    page = PAGE.read_text()
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise SystemExit(f"{PAGE}: needs the lines {BEGIN.strip()} and {END.strip()}, once each")
    head, tail = page[:page.index(BEGIN)], page[page.index(END):]
    PAGE.write_text(head + BEGIN + table(results) + tail)
    plot(results)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("model")
    verb.add_argument("--label", required=True, help="what the table calls the model")
    verb.add_argument("--cases", nargs="+", default=[c for c in CASES if c != "memory"],
                      choices=[c for c in CASES if c != "memory"], metavar="CASE")
    verb.add_argument("--rounds", type=int, default=3)
    verb.add_argument("--libraries", nargs="*", choices=LIBRARIES, default=[])
    verb.add_argument("--threads", type=int, default=2)
    verb.add_argument("--machine", required=True, help="its processor and number of cores")
    verbs.add_parser("write")
    options = parser.parse_args()
    if options.verb == "measure":
        measure(options)
    else:
        write()


if __name__ == "__main__":
    main()
