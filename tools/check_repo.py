#!/usr/bin/env python3
"""Checks what git tracks for what no compiler sees.

  tools/check_repo.py              checks this repository; one line a finding, exit 1 if any
  tools/check_repo.py --self-test  plants each kind of fault in a scratch tree and sees it caught

Found are: absolute paths of somebody's machine, hosts of package registries, promises left in the
code, source files of more than 800 lines whose first lines don't say why, large files, links in
Markdown that lead nowhere, paths and source files named in Markdown that do not exist, and documents
named in source that do not.
"""
import pathlib
import re
import subprocess
import sys

import planted_faults

SOURCE = {".cc", ".h", ".inc", ".py", ".sh", ".cmake"}
MAX_LINES = 800
MAX_BYTES = 2_000_000  # models/ apart
# Written so that the patterns do not find themselves.
MACHINE_PATH = re.compile(r"(?<![\w.\-}])/(?:work|root|home/\w+)/\w")
REGISTRY = re.compile(r"https?://(?:[\w.-]+\.)?(?:pypi|pythonhosted|deb\.debian|npmjs)\.\w+")
PROMISE = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
LONG_REASON = "Over 800 lines:"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FOLDERS = ("src", "include", "tools", "tests", "docs", "bench", "examples", "models", "cmake")
NAMED_PATH = re.compile(r"(?<![\w./\-*<])((?:%s)/[\w./\-]*[\w/])(?![\w*<{…])" % "|".join(FOLDERS))

# `runtime/engine.cc` or `engine.cc`: the end of some tracked path.
SPAN = re.compile(r"`([\w./\-]+\.(?:cc|h|py|sh|cmake))`")
DOCUMENT = re.compile(r"(?<![\w./])docs/(?:decisions|formats|kernels)/[\w.\-]+\.md")


def check_source(root, name, text):
    if pathlib.PurePath(name).suffix not in SOURCE:
        return
    lines = text.splitlines()
    if len(lines) > MAX_LINES and not any(LONG_REASON in line for line in lines[:40]):
        yield f'{name}: {len(lines)} lines; split it, or say "{LONG_REASON} ..." at the top'
    for number, line in enumerate(lines, 1):
        if PROMISE.search(line):
            yield f"{name}:{number}: a promise; keep it or drop it"
        for path in DOCUMENT.findall(line):
            if not (root / path).exists():
                yield f"{name}:{number}: {path} does not exist"


def check_markdown(root, name, text, names):
    folder = (root / name).parent
    for number, line in enumerate(text.splitlines(), 1):
        for target in LINK.findall(line):
            if not target.startswith(("http://", "https://", "mailto:")):
                if not (folder / target).exists():
                    yield f"{name}:{number}: the link to {target} leads nowhere"
        for path in NAMED_PATH.findall(LINK.sub("]", line)):
            if not (root / path).exists() and not (folder / path).exists():
                yield f"{name}:{number}: {path} does not exist"
        for path in SPAN.findall(line):
            if not NAMED_PATH.search(path) and not any(
                    ("/" + other).endswith("/" + path) for other in names):
                yield f"{name}:{number}: no file is called {path}"


def check(root, names):
    found = []
    for name in names:
        file = root / name
        if not file.is_file():
            continue  # deleted, not yet committed
        if file.stat().st_size > MAX_BYTES and not name.startswith("models/"):
            found.append(f"{name}: {file.stat().st_size} bytes; large files belong elsewhere")
            continue
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: an absolute path of one machine")
            if REGISTRY.search(line):
                found.append(f"{name}:{number}: the host of a package registry")
        found += check_source(root, name, text)
        if name.endswith(".md"):
            found += check_markdown(root, name, text, names)
    return found


CLEAN_TREE = {
    "README.md": "See [docs](docs/a.md#top), `src/a.cc`, src/ and [the web](https://example.org).\n"
                 "A folder `src/<name>/` and `tests/*_test.cc` are no paths.\n",
    "docs/a.md": "[up](../README.md)\n",
    "src/a.cc": "int x;\n" * 800,
    "src/long.cc": "// Over 800 lines: a table.\n" + "int x;\n" * 800,
}
PLANTED = (
    ("docs/b.md", "[gone](gone.md)\n", "leads nowhere"),
    ("docs/b.md", "Run `tools/gone.py --all`.\n", "does not exist"),
    ("docs/b.md", "Read `gone.cc` and `a.cc`.\n", "no file is called gone.cc"),
    ("docs/b.md", "cat /wo" "rk/main/a\n", "absolute path"),
    ("src/b.cc", 'Open("/ro' 'ot/model");\n', "absolute path"),
    ("src/b.cc", "// https://py" "pi.org/simple\n", "registry"),
    ("src/b.cc", "// TO" "DO: later\n", "a promise"),
    ("src/b.cc", "// See docs/kernels/" "gone.md.\n", "does not exist"),
    ("src/b.cc", "int x;\n" * 801, "801 lines"),
    ("docs/b.txt", "x" * (MAX_BYTES + 1), "large files"),
)


def check_tracked(root):
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True,
                           text=True).stdout.split("\0")
    return check(root, [name for name in names if name])


if __name__ == "__main__":
    sys.exit(planted_faults.main(
        __doc__,
        lambda: planted_faults.self_test(CLEAN_TREE, PLANTED, check, exactly_one=True),
        check_tracked, "nothing found"))
