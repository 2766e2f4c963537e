"""Strings that are hard for tokenizers: the input of tokenizer_vectors.py."""

from __future__ import annotations

import itertools
import random

# One or two characters of each class that a pre-tokenizer's pattern tells apart: case, marks, Han by
# script and by range, numbers, punctuation, symbols, white space, line breaks, controls, unassigned.
REPRESENTATIVES = (
    "aZs" "\u01C5" "\u02B0" "\u3141" "\u4E2D" "\u3005" "\u3007" "\u2E80" "\u0301" "1" "\u2460" "!"
    "'" "$" " " "\n" "\r" "\t" "\u3000" "\x01" "\x1C" "\uE000" "\u0378" "\u30FC" "\u3042" "\u30FB"
    "\uAC00" "\u00E9" "\u017F"
)
# Longer alphabets that share a theme, for random strings.
THEMES = (
    REPRESENTATIVES,
    "abcdefghijklmnopqrstuvwxyz",
    "abcXYZ \n\t.,!?'\"()[]{}<>|/\\@#$%^&*-_=+~`:;0123456789",
    "0123456789\u0660\u0661\u0662\u0966\u0967\u2167\u2460\u00B2\u00BD\u3007\u3021\U0001D7CE,. ",
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff",
    "\u4E00\u9FA5\u9FA6\u3400\u4DBF\uF900\U00020000\u3042\u30A2\u30FB\u3099\u309B\u3002\uFF0C\uFF21 a1",
    "\U0001F469\u200D\u2764\uFE0F\U0001F468\U0001F3FD\U0001F1E9\U0001F1EA\U0001F600#\uFE0F\u20E3 ",
    "\u0627\u0644\u0639\u064E\u0651\u0640 \u05D0\u05B8\u0915\u094D\u0937\u093F\u0E01\u0E34\u0E49",
    "'sS\u017FtTdDmMlLvVeErR aA\u2019\u00E9",
    "\x00\x01\x02\x07\x08\x1b\x7f\x80\x9f\u00ad\u200d\u200e\u202e\u2060\ufffd\ufffe\U000E0001\U0010FFFF",
    "\u00E6\u00FC\u00F6\u00FF\u00C0\u00DF\u0130\u0131\u1FD3\u1FDB\u2126\u212A\u00C5\u01C4\uFB01\uFF41",
    "\u0300\u0301\u0323\u0345\u20DD\u0903\u093E\U00016FF0\uFE0F\u1AB0 aA\u4E2D1",
)


def scalar(rng: random.Random) -> str:
    """Any Unicode scalar value; planes that hold little are seldom chosen."""
    plane = rng.choices(range(17), weights=[12, 4, 3, 2] + [0.2] * 10 + [1, 0.5, 0.5])[0]
    while True:
        code_point = plane << 16 | rng.randrange(0x10000)
        if plane == 0 and rng.random() < 0.5:
            code_point = rng.randrange(0x3100)
        if not 0xD800 <= code_point < 0xE000:
            return chr(code_point)


def runs(rng: random.Random, alphabet: str) -> str:
    text = ""
    for _ in range(rng.randint(1, 6)):
        count = rng.choice((1, 2, 3, 4, 7, 16, 33, 50, 129, 400))
        text += rng.choice(alphabet) * count
    return text


def with_names(rng: random.Random, names: list[str]) -> str:
    """Names of special tokens, whole, cut short, doubled, or with something inside."""
    text = ""
    for _ in range(rng.randint(1, 5)):
        name = rng.choice(names)
        kind = rng.randrange(6)
        if kind == 0:
            name = name[: rng.randint(1, len(name))]
        elif kind == 1:
            name = name[rng.randint(0, len(name) - 1):]
        elif kind == 2:
            at = rng.randint(0, len(name))
            name = name[:at] + rng.choice(REPRESENTATIVES) + name[at:]
        text += rng.choice(("", " ", "\n", "a", "<", "1", rng.choice(REPRESENTATIVES))) + name
    return text


def mutated(rng: random.Random, lines: list[str]) -> str:
    line = rng.choice(lines)
    begin = rng.randrange(max(1, len(line) - 10))
    text = line[begin: begin + rng.randint(5, 120)]
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(rng.choice(THEMES)) + text[at + rng.randint(0, 2):]
    return text


def make_strings(seed: int, count: int, names: list[str], lines: list[str]) -> list[str]:
    """`count` strings: all triples of REPRESENTATIVES if they fit, then random ones."""
    rng = random.Random(seed)
    strings = [""] + list(REPRESENTATIVES)
    triples = ["".join(t) for t in itertools.product(REPRESENTATIVES, repeat=3)]
    rng.shuffle(triples)
    strings += triples[: count // 4]
    makers = (
        lambda: "".join(scalar(rng) for _ in range(rng.randint(1, 24))),
        lambda: "".join(rng.choices(rng.choice(THEMES), k=rng.randint(1, 40))),
        lambda: "".join(rng.choice(rng.choice(THEMES)) for _ in range(rng.randint(1, 40))),
        lambda: "".join(rng.choices(REPRESENTATIVES, k=rng.randint(4, 10))),
        lambda: runs(rng, rng.choice(THEMES)),
        lambda: with_names(rng, names),
        lambda: mutated(rng, lines),
    )
    while len(strings) < count:
        strings.append(rng.choice(makers)())
    return strings[:count]
