#!/usr/bin/env python3
"""Trains byte-level BPE with the `tokenizers` library: tests/golden/bpe_training.json.

    python tools/golden/bpe_training.py                     the committed file, some seconds
    python tools/golden/bpe_training.py compare DIR FILE... --vocab-size N
        Trains on real files (text, or JSONL with a `text` field) and compares with the tokenizer.json
        in DIR, which `baleen tokenizer train` made of the same files with the same size. Also renders
        DIR's chat template with jinja2 on the conversations of chat_templates.json, and compares with
        what V3's gives.

The committed file has, for each case, the documents, the largest vocabulary and its merges, and for
smaller vocabularies how many of these merges they have. Ties between pairs are where trainers
differ, so the cases are rich in them: words of few letters, of which many come equally often.
`tokenizers` fills hash maps with random seeds; each case is trained several times and must always
come out the same.
"""
import argparse
import json
import pathlib
import random
import time

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import chat_templates
from tokenizer_strings import make_strings

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESERVED = ['<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>', '<｜▁pad▁｜>']
# DeepSeek-V3's, spec/formats.md section 6.1.
PATTERNS = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
]


def train(documents, vocab_size, min_frequency=0):
    """(tokens by id, merges as pairs of strings) as `tokenizers` trains them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), 'isolated') for p in PATTERNS]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=RESERVED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(tokenizer.to_str())['model']
    tokens = sorted(model['vocab'], key=model['vocab'].get)
    return tokens, [tuple(merge) for merge in model['merges']]


def zipf_words(rng, letters, longest, count):
    words = [''.join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(count)]
    weights = [1 / rank for rank in range(1, count + 1)]
    return words, weights


def word_documents(seed, letters, longest, num_words, num_documents, words_each):
    """Documents of invented words, the common ones very common, the rare ones all equally rare."""
    rng = random.Random(seed)
    words, weights = zipf_words(rng, letters, longest, num_words)
    return [' '.join(rng.choices(words, weights, k=words_each)) + '\n' * rng.randint(0, 2)
            for _ in range(num_documents)]


def code_documents(seed, count):
    """Documents with the shape of code: names, numbers, brackets, indentation."""
    rng = random.Random(seed)
    names = [''.join(rng.choices('abcdefgh_', k=rng.randint(2, 9))) for _ in range(40)]
    documents = []
    for _ in range(count):
        lines = []
        for _ in range(rng.randint(3, 12)):
            indent = ' ' * 4 * rng.randint(0, 3)
            a, b = rng.choice(names), rng.choice(names)
            lines.append(indent + rng.choice([
                f'def {a}({b}, {rng.choice(names)}=None):', f'{a}.{b} = {rng.randint(0, 5000)}',
                f"return {a}['{b}'] + {rng.random():.3f}", f'# {a}, {b}: {rng.choice(names)}', '',
                f'if not {a} and {b}[{rng.randint(0, 9)}:]:\t# 中文{rng.choice("的一是不")}']))
        documents.append('\n'.join(lines) + '\n')
    return documents


CASES = {  # name: (documents, vocabulary sizes, min_frequency)
    'two letters': (word_documents(1, 'ab', 14, 200, 20, 60), [262, 300, 420], 0),
    'one letter': ([' '.join('a' * n for n in (2, 3, 3, 5, 7, 8, 9, 12, 31))], [261, 300], 0),
    'five letters': (word_documents(2, 'abcde', 9, 400, 30, 80), [259, 400, 900], 0),
    'frequent only': (word_documents(2, 'abcde', 9, 400, 30, 80), [900], 40),
    'code': (code_documents(3, 60), [300, 700, 1200], 0),
    'every script': (make_strings(4, 150, RESERVED, ['x = 1', 'Once upon a time']), [500, 2000], 0),
}
NUM_RUNS = 4


def write_golden():
    cases = {}
    for name, (documents, sizes, min_frequency) in CASES.items():
        tokens, merges = train(documents, max(sizes), min_frequency)
        for _ in range(NUM_RUNS - 1):
            assert train(documents, max(sizes), min_frequency) == (tokens, merges), name
        num_merges = {}
        for size in sizes:
            smaller_tokens, smaller = train(documents, size, min_frequency)
            assert smaller == merges[:len(smaller)], (name, size)
            assert smaller_tokens == tokens[:len(smaller_tokens)], (name, size)
            num_merges[size] = len(smaller)
        assert len(tokens) - 259 == len(merges), 'a text that two merges make'
        cases[name] = {'min_count': min_frequency, 'vocab_size': len(tokens),
                       'num_merges': num_merges, 'documents': documents,
                       'merges': [' '.join(merge) for merge in merges]}
    path = ROOT / 'tests/golden/bpe_training.json'
    path.write_text(json.dumps({'authority': f'tokenizers {tokenizers.__version__}', 'cases': cases},
                               ensure_ascii=True, indent=0) + '\n')
    print(path, path.stat().st_size, 'bytes')


def documents_of(files):
    for file in files:
        text = pathlib.Path(file).read_bytes().decode()
        if file.endswith('.jsonl'):
            yield from (json.loads(line)['text'] for line in text.split('\n') if line.strip())
        else:
            yield text


def compare(directory, files, vocab_size):
    ours = json.loads((pathlib.Path(directory) / 'tokenizer.json').read_text())
    in_front = len(RESERVED)
    num_behind = len(ours['added_tokens']) - in_front
    start = time.monotonic()
    tokens, merges = train(documents_of(files), vocab_size - num_behind)
    print(f'tokenizers: {time.monotonic() - start:.1f} s')
    our_merges = [tuple(merge.split(' ')) for merge in ours['model']['merges']]
    our_tokens = sorted(ours['model']['vocab'], key=ours['model']['vocab'].get)
    same = next((i for i, (a, b) in enumerate(zip(merges, our_merges)) if a != b),
                min(len(merges), len(our_merges)))
    print(f'{len(merges)} merges, ours {len(our_merges)}, the first {same} equal; '
          f'vocabularies {"equal" if tokens == our_tokens else "DIFFER"}')
    num_wrong = check_chat_template(pathlib.Path(directory) / 'tokenizer_config.json')
    return 0 if merges == our_merges and tokens == our_tokens and num_wrong == 0 else 1


def check_chat_template(config):
    program = json.loads(config.read_text())['chat_template']
    golden_file = json.loads((ROOT / 'tests/golden/chat_templates.json').read_text())
    cases = [case for case in golden_file['cases']
             if case['template'] == 'deepseek-v3' and not case.get('tools')]
    num_wrong = 0
    for case in cases:
        rendered = chat_templates.Render(program, golden_file['conversations'][case['conversation']],
                                         add_generation_prompt=case['add_generation_prompt'])
        if rendered != case['expected']:
            num_wrong += 1
            print(f"{case['conversation']}:\n  {rendered!r}\n  {case['expected']!r}")
    print(f'chat template: {len(cases) - num_wrong} of {len(cases)} conversations as V3 renders them')
    return num_wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('what', nargs='?', choices=['golden', 'compare'], default='golden')
    parser.add_argument('paths', nargs='*')
    parser.add_argument('--vocab-size', type=int)
    arguments = parser.parse_args()
    if arguments.what == 'golden':
        return write_golden()
    return compare(arguments.paths[0], arguments.paths[1:], arguments.vocab_size)


if __name__ == '__main__':
    raise SystemExit(main())
