#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_tables.inc: the character classes that the pre-tokenizers use.

The authority is the regular-expression engine inside the pinned `tokenizers` (0.22.2, Unicode 16):
each class is found by matching it against every Unicode scalar value, so the table is right for the
engine that made the reference ids, whatever version of Unicode this Python knows. `tiktoken`
(0.14.0) is probed too, and the tool fails if it disagrees.

Use: tools/unicode_tables.py src/tokenizer/unicode_tables.inc      (about ten seconds)
"""

import sys

import tiktoken
import tokenizers
from tokenizers import Regex, pre_tokenizers

# Flag in the table, and the class it stands for. Han is the script, and overlaps the others.
CLASSES = [
    (0x01, r"[\p{Lu}\p{Lt}]"),
    (0x02, r"\p{Ll}"),
    (0x04, r"[\p{Lm}\p{Lo}]"),
    (0x08, r"\p{M}"),
    (0x10, r"\p{N}"),
    (0x20, r"[\p{P}\p{S}]"),
    (0x40, r"\s"),
    (0x80, r"\p{Han}"),
]
# What `Digits` isolates. It asks Rust's standard library, which is at a newer Unicode than \p{N}.
DIGIT = 0x100
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, SCALARS))


def removed_by(pre_tokenizer):
    """Code points that a pre-tokenizer which drops its matches takes out of TEXT."""
    kept = set()
    for piece, _ in pre_tokenizer.pre_tokenize_str(TEXT):
        kept.update(map(ord, piece))
    return set(SCALARS) - kept


def matched_by_tiktoken(pattern):
    encoding = tiktoken.Encoding(
        "probe", pat_str=pattern, special_tokens={},
        mergeable_ranks={bytes([b]): b for b in range(256)})
    matched = set()
    for begin in range(0, len(TEXT), 65536):
        ids = encoding.encode_ordinary(TEXT[begin:begin + 65536])
        matched.update(map(ord, bytes(ids).decode()))
    return matched


def main():
    flags = dict.fromkeys(SCALARS, 0)
    for flag, pattern in CLASSES:
        members = removed_by(pre_tokenizers.Split(Regex(pattern), "removed"))
        if members != matched_by_tiktoken(pattern):
            sys.exit(f"tokenizers and tiktoken disagree about {pattern}")
        for code_point in members:
            flags[code_point] |= flag
    digits = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(
        "".join("a" + c for c in TEXT))
    for code_point in {ord(piece) for piece, _ in digits if len(piece) == 1} - {ord("a")}:
        flags[code_point] |= DIGIT

    ranges = []
    for code_point in range(0x110000):
        value = flags.get(code_point, 0)
        if not ranges or ranges[-1][1] != value:
            ranges.append((code_point, value))

    lines = [
        "// Made by tools/unicode_tables.py with tokenizers "
        f"{tokenizers.__version__} and tiktoken {tiktoken.__version__}; do not edit.",
        "// {first code point, flags}; a range ends where the next one begins.",
    ]
    line = ""
    for begin, value in ranges:
        item = f"{{0x{begin:X}, {value}}},"
        if len(line) + 1 + len(item) > 100:
            lines.append(line)
            line = ""
        line = f"{line} {item}" if line else item
    lines.append(line)
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("\n".join(lines) + "\n")
    print(f"{len(ranges)} ranges")


if __name__ == "__main__":
    main()
