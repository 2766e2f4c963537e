#!/usr/bin/env python3
"""Checks what each folder of the source includes against the table in docs/architecture.md.

  tools/check_deps.py              checks this repository; one line a violation, exit 1 if any
  tools/check_deps.py --self-test  plants each kind of violation in a scratch tree and sees it caught

The table's rows name a folder and what it may use directly; every folder may use itself, `base` and
`include/`. Beyond the table: public headers see only the standard library and each other, some
verbs of the command line see only the public library, third-party headers have the homes listed
here, and tests (*_test.cc, *_testing.h) may include anything inside or beneath what they test.
"""
import pathlib
import re
import sys

import planted_faults

ROW = re.compile(r"^\| `(include/baleen|src/[\w/]+)/` \|.*\| ([^|]*) \|$", re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
STANDARD = re.compile(r"^[a-z_]+$")  # <vector>; C++ headers have no suffix
SYSTEM = re.compile(
    r"^(sys/[a-z]+|linux/[a-z]+|arpa/inet|cpuid|fcntl|fnmatch|langinfo|locale|poll|pthread|pwd|sched"
    r"|signal|spawn"
    r"|termios|unistd|wchar)\.h$")
INTRINSICS = ("kernels/avx2", "kernels/avx512")

# Third-party headers and the folders that may see them; None: every folder but include/.
THIRD_PARTY = (
    (re.compile(r"^fmt/"), None),
    (re.compile(r"^simdjson\.h$"), ("base", "formats", "tokenizer", "grammar", "checkpoint", "server")),
    (re.compile(r"^(immintrin|x86intrin)\.h$"), INTRINSICS),
    (re.compile(r"^zlib\.h$"), ("evaluation",)),
    (re.compile(r"^(CLI/|histedit\.h$)"), ("cli",)),
    (re.compile(r"^nlohmann/"), ("cli", "server", "quantize")),
    (re.compile(r"^(boost/|openssl/|prometheus/|sqlite3\.h$|libpq-fe\.h$)"), ("server",)),
)

# These verbs are written against the public library, as an embedder's program would be.
PUBLIC_VERBS = ("run", "serve", "evaluate", "bench", "tokenizer")
PUBLIC_VERBS_USE = ("include", "base", "evaluation", "server", "cli")


def read_table(text):
    """{folder: set of folders, or None for all}; folders as in includes, `include/baleen` as
    `include`."""
    table = {}
    for path, cell in ROW.findall(text):
        folder = "include" if path.startswith("include") else path.removeprefix("src/")
        if cell == "all":
            table[folder] = None
        elif cell == "the standard library only":
            table[folder] = set()
        else:
            table[folder] = {name.strip(" `/") for name in cell.split(",")}
    return table


def find_cycle(table):
    """A folder that reaches itself, or None."""
    def reach(folder, seen):
        for other in (table.get(folder) or ()):
            if other != folder and other not in seen:
                seen.add(other)
                reach(other, seen)
        return seen
    return next((folder for folder in table if folder in reach(folder, set())), None)


def folder_of(path, table):
    """The longest row that holds `path` (relative to src/, or baleen/...)."""
    if path.startswith("baleen/"):
        return "include"
    parts = path.split("/")[:-1]
    for n in range(len(parts), 0, -1):
        if "/".join(parts[:n]) in table:
            return "/".join(parts[:n])
    return None


def includes_of(file):
    text = file.read_text()
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(1 if match[1] else 2)) + 1
        yield line, match[1], match[2]


def check_third_party(header, folder):
    """The reason why `folder` may not include <header>, or None."""
    if STANDARD.match(header):
        return None
    if folder == "include":
        return "public headers include only the standard library and baleen/"
    if SYSTEM.match(header):
        return None
    for pattern, homes in THIRD_PARTY:
        if pattern.match(header):
            return None if homes is None or folder in homes else f"only {', '.join(homes)} may"
    return "an unknown library; list it in tools/check_deps.py with its homes"


def beneath(folder, table):
    """All that `folder` may use, directly or through others."""
    found, todo = set(), [folder]
    while todo:
        for other in (table.get(todo.pop()) or ()):
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def check_file(file, path, table):
    """Yields (line, complaint) of one file; `path` is relative to src/, or baleen/..."""
    folder = folder_of(path, table)
    if folder is None:
        yield 1, "its folder has no row in docs/architecture.md"
        return
    is_test = re.search(r"_(test|testing|fuzz)\.(cc|h)$", path) is not None
    allowed = table[folder]
    if allowed is not None:
        if is_test:
            inner = {other for other in table if other.startswith(folder + "/")}
            allowed = allowed | inner | beneath(folder, table)
        allowed = allowed | {folder, "base", "include"}
        if folder == "include":
            allowed = {"include"}
        elif folder == "base":
            allowed = {"base", "include"}
    for line, ours, theirs in includes_of(file):
        if theirs:
            if is_test and re.match(r"^g(test|mock)/", theirs):
                continue
            reason = check_third_party(theirs, folder)
            if reason:
                yield line, f"<{theirs}>: {reason}"
            continue
        target = folder_of(ours, table)
        if target is None:
            yield line, f'"{ours}" is in no folder of the table'
        elif target == "cli" and folder != "cli":
            yield line, f'"{ours}": nothing may use cli'
        elif allowed is not None and target not in allowed:
            yield line, f'"{ours}": {folder} may use {", ".join(sorted(allowed - {folder}))}'


def check_public_verbs(src, table):
    """Yields (file, line, complaint) for the verbs that see only the public library, through the
    helper headers of cli too."""
    cli = src / "cli"
    for verb in PUBLIC_VERBS:
        todo = [f for f in sorted(cli.glob(f"{verb}*.*")) if re.match(rf"{verb}(_\w+)?\.", f.name)]
        seen = set()
        while todo:
            file = todo.pop()
            if file in seen:
                continue
            seen.add(file)
            for line, ours, _ in includes_of(file):
                if not ours:
                    continue
                if folder_of(ours, table) == "cli":
                    todo.append(src / ours)
                elif folder_of(ours, table) not in PUBLIC_VERBS_USE:
                    yield file, line, f'"{ours}": `baleen {verb}` sees only the public library'


def check(root):
    """All complaints about the tree at `root`, as lines of text."""
    table = read_table((root / "docs/architecture.md").read_text())
    found = []
    if not table:
        return ["docs/architecture.md: no table of folders found"]
    for folder, uses in table.items():
        for other in sorted((uses or set()) - table.keys()):
            found.append(f"docs/architecture.md: {folder} may use {other}, which has no row")
    cycle = find_cycle(table)
    if cycle:
        found.append(f"docs/architecture.md: {cycle} may use itself through others")
    src = root / "src"
    files = [(f, str(f.relative_to(src))) for f in sorted(src.rglob("*"))
             if f.suffix in (".h", ".cc", ".inc") and len(f.relative_to(src).parts) > 1]
    include = root / "include"
    files += [(f, str(f.relative_to(include))) for f in sorted(include.rglob("*.h"))]
    for file, path in files:
        for line, complaint in check_file(file, path, table):
            found.append(f"{file.relative_to(root)}:{line}: {complaint}")
    for file, line, complaint in check_public_verbs(src, table):
        found.append(f"{file.relative_to(root)}:{line}: {complaint}")
    return found


CLEAN_TABLE = """
| `include/baleen/` | x | the standard library only |
| `src/base/` | x | include |
| `src/kernels/` | x | base |
| `src/kernels/avx2/` | x | kernels |
| `src/model/` | x | kernels |
| `src/runtime/` | x | model |
| `src/evaluation/` | x | include |
| `src/cli/` | x | all |
"""
CLEAN_TREE = {
    "docs/architecture.md": CLEAN_TABLE,
    "include/baleen/engine.h": "#include <vector>\n#include \"baleen/error.h\"\n",
    "src/base/check.cc": "#include \"baleen/error.h\"\n#include <fmt/format.h>\n#include <sched.h>\n",
    "src/kernels/avx2/table.cc": "#include \"kernels/kernels.h\"\n#include <immintrin.h>\n",
    "src/model/mla.cc": "#include \"kernels/kernels.h\"\n#include \"base/check.h\"\n",
    "src/kernels/kernels_test.cc": "#include \"kernels/avx2/primitives.h\"\n",
    "src/runtime/engine_test.cc": "#include \"kernels/kernels.h\"\n#include <gtest/gtest.h>\n",
    "src/cli/inspect.cc": "#include \"model/config.h\"\n#include <CLI/CLI.hpp>\n",
    "src/cli/run.cc": "#include \"cli/options.h\"\n#include \"baleen/engine.h\"\n",
    "src/cli/options.h": "#include \"evaluation/perplexity.h\"\n",
}
# What is planted, and a part of the complaint that must follow.
PLANTED = (
    ("include/baleen/a.h", "#include <fmt/format.h>\n", "public headers include only"),
    ("include/baleen/a.h", "#include <unistd.h>\n", "public headers include only"),
    ("include/baleen/a.h", '#include "base/check.h"\n', "include may use"),
    ("src/base/a.cc", '#include "kernels/kernels.h"\n', "base may use"),
    ("src/kernels/a.cc", '  #  include "model/config.h"\n', "kernels may use"),
    ("src/kernels/a.cc", '#include "kernels/avx2/primitives.h"\n', "kernels may use"),
    ("src/kernels/a.cc", "#include <immintrin.h>\n", "only kernels/avx2"),
    ("src/model/a.cc", "#include <simdjson.h>\n", "only base"),
    ("src/model/a.cc", "#include <curl/curl.h>\n", "an unknown library"),
    ("src/model/a.cc", "#include <boost/asio.hpp>\n", "only server may"),
    ("src/model/a.cc", "#include <gtest/gtest.h>\n", "an unknown library"),
    ("src/model/a_test.cc", '#include "cli/options.h"\n', "nothing may use cli"),
    ("src/kernels/a_testing.h", '#include "model/config.h"\n', "kernels may use"),
    ("src/model/a.cc", '#include "nowhere/a.h"\n', "in no folder of the table"),
    ("src/evaluation/a.cc", '#include "model/config.h"\n', "evaluation may use"),
    ("src/elsewhere/a.cc", "", "no row"),
    ("src/cli/run.cc", '#include "model/config.h"\n', "`baleen run` sees only"),
    ("src/cli/bench_table.cc", '#include "model/config.h"\n', "`baleen bench` sees only"),
    ("src/cli/options.h", '#include "model/config.h"\n', "`baleen run` sees only"),
    ("docs/architecture.md", CLEAN_TABLE.replace("x | base", "x | runtime"), "may use itself"),
    ("docs/architecture.md", CLEAN_TABLE.replace("x | base", "x | tensor"), "which has no row"),
    ("docs/architecture.md", "no table", "no table of folders found"),
)


if __name__ == "__main__":
    sys.exit(planted_faults.main(
        __doc__, lambda: planted_faults.self_test(CLEAN_TREE, PLANTED, lambda root, _: check(root)),
        check, "every include is allowed"))
