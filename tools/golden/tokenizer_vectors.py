"""Writes what the reference tokenizers make of hard strings.

    python tools/golden/tokenizer_vectors.py golden
        tests/golden/tokenizer_stories.jsonl: some hundred strings for the bundled model; committed.

    python tools/golden/tokenizer_vectors.py differential --shared ../shared --output DIR
            [--count 200000] [--seed 1] [--only NAME...]
        DIR/NAME.jsonl and DIR/NAME/, the tokenizer's files, for each NAME below. Some hundred MB, a
        few minutes; not committed. `tokenizer_test` compares with all that is in
        tokenizer_vectors/ of the build folder, or in $BALEEN_TOKENIZER_VECTORS.

stories       the bundled model                                by tokenizers
v3            DeepSeek-V3's published tokenizer.json           by tokenizers
v2            deepseek-llm's GGUF vocabulary, V2's patterns    by tokenizers
kimi          ranks trained here (Kimi's are not at hand)      by tiktoken, cut as Moonshot's wrapper
kimi-shuffled the same tokens with ranks in random order       by tiktoken, likewise
kimi-json     kimi's ranks and pattern in a tokenizer.json     by tokenizers

A file has a JSON object a line: first {"tokenizer", "config", "authority"}, paths beside the file;
then {"encode", "special", "ids"} (special: names in the text become tokens) or {"decode",
"skip_special", "text"}.
"""

from __future__ import annotations

import argparse
import base64
import json
import lzma
import pathlib
import random
import re
import sys

import gguf
import tiktoken
import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tokenizer_strings import make_strings, scalar

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZERS = f"tokenizers {tokenizers.__version__}"
TIKTOKEN = f"tiktoken {tiktoken.__version__}"

# spec/formats.md section 6.2; ranges of letters by code point, as an editor may change characters.
V2_LETTERS = """
41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C
38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B
1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D
1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102
2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183
2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E
AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2
10CC0-10CF2 118A0-118DF 1E900-1E943""".split()
V2_CLASS = "".join("-".join(chr(int(end, 16)) for end in r.split("-")) for r in V2_LETTERS)
V2_PATTERNS = [
    "[\r\n]",
    rf"\s?[{V2_CLASS}]+",
    "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+",
    r"\s+$",
    "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
]
KIMI_PATTERN = "|".join([
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
])
NUM_KIMI_SPECIAL = 256


def byte_level_alphabet() -> dict[str, int]:
    """The character of each byte in byte-level spelling, after GPT-2."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


BYTE_OF = byte_level_alphabet()


class Reference:
    """A tokenizer's files and what the authority makes of text."""

    def __init__(self, name: str, file: str, config: str | None, authority: str):
        self.name, self.file, self.config, self.authority = name, file, config, authority
        self.names: list[str] = []
        self.vocab_size = 0
        self.undecodable: set[int] = set()  # ids that the authority decodes wrongly
        self.published: list[tuple[str, list[int]]] = []


class HuggingFace(Reference):
    def __init__(self, name: str, file: str, text: str):
        super().__init__(name, file, None, TOKENIZERS)
        self.full = Tokenizer.from_str(text)
        self.plain = Tokenizer.from_str(json.dumps(json.loads(text) | {"added_tokens": []}))
        self.names = [token.content for token in self.full.get_added_tokens_decoder().values()]
        self.vocab_size = self.full.get_vocab_size()

    def encode(self, texts: list[str], special: bool) -> list[list[int]]:
        tokenizer = self.full if special else self.plain
        return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int], skip_special: bool) -> str:
        return self.full.decode(ids, skip_special_tokens=skip_special)


def kimi_chunks(text: str):
    """Cuts text where Moonshot's wrapper does (spec/formats.md section 9.4)."""
    for block_begin in range(0, len(text), 400_000):
        block = text[block_begin: block_begin + 400_000]
        begin = length = 0
        for i, character in enumerate(block):
            same = i > 0 and character.isspace() == block[i - 1].isspace()
            length = length + 1 if same else 1
            if length > 25_000:
                yield block[begin:i]
                begin, length = i, 1
        yield block[begin:]


class Kimi(Reference):
    def __init__(self, name: str, ranks: dict[bytes, int], config: dict):
        super().__init__(name, "tiktoken.model", "tokenizer_config.json", TIKTOKEN)
        first = len(ranks)
        named = {int(i): t["content"] for i, t in config["added_tokens_decoder"].items()}
        self.kept = {int(i) for i, t in config["added_tokens_decoder"].items() if not t["special"]}
        self.special = {
            named.get(i, f"<|reserved_token_{i}|>"): i for i in range(first, first + NUM_KIMI_SPECIAL)}
        self.encoding = tiktoken.Encoding(
            name, pat_str=KIMI_PATTERN, mergeable_ranks=ranks, special_tokens=self.special)
        self.splitter = re.compile("(" + "|".join(map(re.escape, self.special)) + ")")
        self.names = list(self.special)
        self.vocab_size = first + NUM_KIMI_SPECIAL

    def encode_text(self, text: str) -> list[int]:
        return [i for chunk in kimi_chunks(text) for i in self.encoding.encode_ordinary(chunk)]

    def encode(self, texts: list[str], special: bool) -> list[list[int]]:
        if not special:
            return [self.encode_text(text) for text in texts]
        result = []
        for text in texts:
            ids = []
            for part in self.splitter.split(text):
                ids += [self.special[part]] if part in self.special else self.encode_text(part)
            result.append(ids)
        return result

    def decode(self, ids: list[int], skip_special: bool) -> str:
        dropped = set(self.special.values()) - self.kept if skip_special else ()
        return self.encoding.decode([i for i in ids if i not in dropped], errors="replace")


def byte_level_sequence(steps):
    return pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def isolated(patterns):
    return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]


def make_v2(shared: pathlib.Path, folder: pathlib.Path) -> HuggingFace:
    source = shared / "data/tokenizers/deepseek-llm/ggml-vocab-deepseek-llm.gguf"
    fields = gguf.GGUFReader(source).fields
    tokens, types, merges = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))
    vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind == 1}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = byte_level_sequence(
        [*isolated(V2_PATTERNS), pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types):
        if kind in (3, 4):
            tokenizer.add_tokens(
                [tokenizers.AddedToken(token, special=kind == 3, normalized=kind != 3)])
    text = tokenizer.to_str()
    (folder / "tokenizer.json").write_text(text)
    reference = HuggingFace("v2", "tokenizer.json", text)
    # Letters that this vocabulary adds as tokens, and that tokenizers takes for bytes when decoding.
    reference.undecodable = {i for i, t in enumerate(tokens) if types[i] == 4 and len(t) == 1}
    inputs = source.with_suffix(".gguf.inp").read_bytes().decode()
    outputs = source.with_suffix(".gguf.out").read_text().splitlines()
    parts = inputs.split("\n__ggml_vocab_test__\n")
    reference.published = [(t, [int(i) for i in o.split()]) for t, o in zip(parts, outputs)]
    add_published_wikitext(shared, "v2", reference)
    return reference


def add_published_wikitext(shared: pathlib.Path, name: str, reference: HuggingFace):
    path = shared / f"data/tokenizers/wikitest-vectors/wikitest.cat.1chunk.{name}-encoded.txt"
    ids = [int(i) for i in re.findall(r"\d+", path.read_text())][1:]  # without the first token, BOS
    text = reference.full.decode(ids)
    if not wikitext(shared).startswith(text):
        sys.exit(f"{path} is not the beginning of WikiText-2")
    reference.published.append((text, ids))


def make_v3(shared: pathlib.Path, folder: pathlib.Path) -> HuggingFace:
    packed = (shared / "data/tokenizers/deepseek-v3/tokenizer.json.xz").read_bytes()
    text = lzma.decompress(packed).decode()
    (folder / "tokenizer.json").write_text(text)
    reference = HuggingFace("v3", "tokenizer.json", text)
    add_published_wikitext(shared, "v3", reference)
    return reference


def make_stories(shared: pathlib.Path, folder: pathlib.Path) -> HuggingFace:
    text = stories_path(shared).read_text()
    (folder / "tokenizer.json").write_text(text)
    return HuggingFace("stories", "tokenizer.json", text)


def stories_path(shared: pathlib.Path) -> pathlib.Path:
    bundled = ROOT / "models/baleen-stories-mini/tokenizer.json"
    return bundled if bundled.exists() else (
        shared / "checkpoints/baleen-stories-mini/tokenizer.json")


def train_kimi_ranks(shared: pathlib.Path) -> dict[bytes, int]:
    """Ranks of some thousand tokens of many scripts, the single bytes first in GPT-2's order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level_sequence(isolated([KIMI_PATTERN]))
    trainer = trainers.BpeTrainer(
        vocab_size=6000, min_frequency=2, show_progress=False,
        max_token_length=256, initial_alphabet=list(BYTE_OF))
    hard = make_strings(7, 20000, ["<think>"], wiki_lines(shared))
    tokenizer.train_from_iterator([*wiki_lines(shared)[:1500], *hard, *hard], trainer)
    vocab = tokenizer.get_vocab()
    merged = sorted((t for t in vocab if len(t) > 1), key=vocab.get)
    return {bytes(BYTE_OF[c] for c in t): i for i, t in enumerate([*BYTE_OF, *merged])}


def make_kimi(shared: pathlib.Path, folder: pathlib.Path, shuffled: bool) -> Kimi:
    ranks = train_kimi_ranks(shared)
    if shuffled:
        tokens = list(ranks)[256:]
        random.Random(5).shuffle(tokens)
        ranks = {t: i for i, t in enumerate([*list(ranks)[:256], *tokens])}
    first = len(ranks)
    names = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<think>", "</think>"]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    config = {"added_tokens_decoder": {
        str(first + 3 * i): {"content": name, "special": "think" not in name, **flags}
        for i, name in enumerate(names)}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tiktoken.model").write_text("".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    return Kimi("kimi-shuffled" if shuffled else "kimi", ranks, config)


def make_kimi_json(shared: pathlib.Path, folder: pathlib.Path) -> HuggingFace:
    ranks = train_kimi_ranks(shared)
    spelling = {byte: character for character, byte in BYTE_OF.items()}
    spell = lambda token: "".join(spelling[b] for b in token)
    merges = []
    for token in ranks:
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += [(spell(a), spell(b)) for a, b in splits if a in ranks and b in ranks]
    model = models.BPE({spell(t): r for t, r in ranks.items()}, merges, ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = byte_level_sequence(isolated([KIMI_PATTERN]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["[BOS]", "[EOS]", "<|im_end|>"])
    text = tokenizer.to_str()
    (folder / "tokenizer.json").write_text(text)
    return HuggingFace("kimi-json", "tokenizer.json", text)


MAKERS = {
    "stories": make_stories,
    "v3": make_v3,
    "v2": make_v2,
    "kimi": lambda shared, folder: make_kimi(shared, folder, shuffled=False),
    "kimi-shuffled": lambda shared, folder: make_kimi(shared, folder, shuffled=True),
    "kimi-json": make_kimi_json,
}


def wikitext(shared: pathlib.Path) -> str:
    return lzma.decompress((shared / "data/wikitext2/wiki.test.raw.xz").read_bytes()).decode()


def wiki_lines(shared: pathlib.Path) -> list[str]:
    return [line for line in wikitext(shared).split("\n") if len(line) > 20]


def long_strings(rng: random.Random) -> list[str]:
    """Long pieces, and lengths around Kimi's limits of 25,000 and 400,000 characters."""
    letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=100_000))
    return [
        "a" * 30_000, " " * 30_000, " " * 25_000 + "x", "\n" * 26_000, letters,
        "\u4E2D" * 25_001, "\U0001F600" * 30_000, "x" * 25_000, "x" * 25_001 + " y",
        ("word " * 5000 + "\x1c" * 3 + "x" * 50_001 + " \t" * 13_000) * 3,
        "ab " * 133_334 + "tail 123456", "".join(scalar(rng) for _ in range(60_000)),
    ]


def write_vectors(path, reference, strings, long, seed):
    rng = random.Random(seed)
    with open(path, "w", encoding="utf8") as out:
        def put(record):
            out.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

        config = reference.config and f"{reference.name}/{reference.config}"
        put({"tokenizer": f"{reference.name}/{reference.file}", "config": config,
             "authority": reference.authority})
        for text, ids in reference.published:
            if reference.encode([text], True)[0] != ids:
                sys.exit(f"{reference.name}: the authority disagrees with published ids of {text[:40]!r}")
            put({"encode": text, "special": True, "ids": ids})
        # Each string in one mode, so that the count is that of different strings.
        for special in (True, False):
            half = strings[0 if special else 1::2] + long
            for text, ids in zip(half, reference.encode(half, special)):
                put({"encode": text, "special": special, "ids": ids})
        decodable = [i for i in range(reference.vocab_size) if i not in reference.undecodable]
        for i in range(len(strings) // 20):
            ids = rng.choices(decodable, k=rng.randint(0, 12))
            skip = i % 2 == 0
            put({"decode": ids, "skip_special": skip, "text": reference.decode(ids, skip)})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("golden", "differential"))
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=MAKERS, default=list(MAKERS))
    args = parser.parse_args()

    if args.mode == "golden":
        lines = ["The quick brown fox jumps over the lazy dog, said Mrs O'Neil's 27 children."]
        text = stories_path(args.shared).read_text()
        reference = HuggingFace("baleen-stories-mini", "tokenizer.json", text)
        strings = make_strings(11, 560, reference.names, lines)
        path = args.output or ROOT / "tests/golden/tokenizer_stories.jsonl"
        write_vectors(path, reference, strings, [], 11)
        return
    for name in args.only:
        folder = args.output / name
        folder.mkdir(parents=True, exist_ok=True)
        reference = MAKERS[name](args.shared, folder)
        strings = make_strings(args.seed, args.count, reference.names, wiki_lines(args.shared))
        long = [*long_strings(random.Random(args.seed)), wikitext(args.shared)]
        write_vectors(args.output / f"{name}.jsonl", reference, strings, long, args.seed)
        print(f"{name}: {len(strings)} strings, {len(long)} long ones, by {reference.authority}")


if __name__ == "__main__":
    main()
