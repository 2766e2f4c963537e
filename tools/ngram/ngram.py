#!/usr/bin/env python3
"""An n-gram model to measure a language model against: interpolated modified Kneser-Ney.

    ngram.py score TOKENIZER_DIR TRAIN HELDOUT [--order 5] [--json]
        Trains on the tokens of TRAIN, scores those of HELDOUT (each a .jsonl with a `text` field or a
        plain text), prints bits per byte.
    ngram.py test
        Held against sums by hand and a slow implementation from the definition.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (TR-10-98,
Harvard, 1998), section 3: three discounts an order from counts of counts, lower orders on
continuation counts, all orders interpolated, the last with the uniform distribution over the
vocabulary. n-grams that begin with BOS keep their plain counts in every order, as KenLM has it:
nothing but an end stands before them. As in Baleen's training data, a document is BOS, its tokens,
EOS, and documents follow each other; histories do not reach across BOS when scoring.

Needs numpy and tokenizers (versions in tools/golden/requirements.txt). Memory: about 60 bytes a
token of TRAIN; of time most goes into sorting.
"""
import argparse
import json
import math
import pathlib
import random
import time

import numpy as np

BOS, EOS = '<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>'
WORD_BITS = 20  # of a key: id of the n-gram without its last word, then the last word


class NgramModel:
    """Of each order n, 1 to `order`: `keys[n]`, the sorted keys of its n-grams, whose places are
    their ids; their discounted counts; and of each (n-1)-gram, by id, what its continuations leave
    to the order below."""

    def __init__(self, tokens, vocab_size, order, bos):
        assert vocab_size < 1 << WORD_BITS
        self.order, self.vocab_size, self.bos = order, vocab_size, bos
        self.keys, self.parts, self.backoff = {}, {}, {}
        tokens = np.asarray(tokens, dtype=np.int64)
        ids = np.zeros(len(tokens) + 1, dtype=np.int64)  # of the empty n-gram at each position
        previous = None
        for n in range(1, order + 1):
            num = len(tokens) - n + 1
            keys = ids[:num] << WORD_BITS | tokens[n - 1:]
            self.keys[n], first, next_ids, counts = np.unique(
                keys, return_index=True, return_inverse=True, return_counts=True)
            del keys
            next_ids = next_ids.astype(np.int64)
            starts_with_bos = tokens[first] == bos
            if previous is not None:
                # Of each (n-1)-gram, how many different words stand before it: one for each n-gram
                # that ends in it.
                continuations = np.bincount(ids[first + 1], minlength=len(previous[0]))
                self._add_order(n - 1, np.where(previous[1], previous[0], continuations))
            previous = counts, starts_with_bos
            ids = next_ids
        self._add_order(order, previous[0])

    def _add_order(self, n, counts):
        of_counts = np.bincount(np.minimum(counts, 5), minlength=6)
        n1, n2, n3, n4 = (max(int(c), 1) for c in of_counts[1:5])
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        # Counts of counts of tiny or odd texts can give what is no discount.
        discounts = np.clip(discounts, 0, [0, 1, 2, 3])
        context = self.keys[n] >> WORD_BITS
        total = np.bincount(context, weights=counts)
        discount = discounts[np.minimum(counts, 3)]
        left = np.bincount(context, weights=discount)
        total[total == 0] = 1
        self.backoff[n] = np.where(np.bincount(context) > 0, left / total, 1.0)
        self.parts[n] = (counts - discount) / total[context]

    def find(self, n, context_ids, words):
        """Ids of the n-grams, -1 where there is none or no context."""
        keys = self.keys[n]
        wanted = context_ids << WORD_BITS | words
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((context_ids >= 0) & (keys[places] == wanted), places, -1)

    def probabilities(self, tokens):
        """Of each token after those before it, back to the last BOS; the first token's is of no
        history."""
        tokens = np.asarray(tokens, dtype=np.int64)
        positions = np.arange(len(tokens))
        since_bos = positions - np.maximum.accumulate(np.where(tokens == self.bos, positions, 0))
        # A BOS itself is predicted from what stands before it.
        since_bos[1:] = np.where(tokens[1:] == self.bos, since_bos[:-1] + 1, since_bos[1:])
        result = np.full(len(tokens), 1 / self.vocab_size)
        for n in range(1, self.order + 1):
            at = positions[since_bos >= n - 1]
            context = np.zeros(len(at), dtype=np.int64)
            for k in range(1, n):
                context = self.find(k, context, tokens[at - n + k])
            known = (context >= 0) & (context < len(self.backoff[n]))
            at, context = at[known], context[known]
            found = self.find(n, context, tokens[at])
            part = np.where(found >= 0, self.parts[n][found], 0)
            result[at] = part + self.backoff[n][context] * result[at]
        return result


def read_documents(path):
    text = pathlib.Path(path).read_bytes().decode()
    if not str(path).endswith('.jsonl'):
        return [text]
    return [json.loads(line)['text'] for line in text.split('\n') if line.strip()]


def encode(tokenizer, documents):
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    pieces = []
    for begin in range(0, len(documents), 500):
        for encoding in tokenizer.encode_batch_fast(documents[begin:begin + 500],
                                                    add_special_tokens=False):
            pieces.append(np.array([bos, *encoding.ids, eos], dtype=np.int32))
    return np.concatenate(pieces)


def score(directory, train, heldout, order):
    from tokenizers import Tokenizer
    content = json.loads((pathlib.Path(directory) / 'tokenizer.json').read_text())
    # Names of control tokens inside the text are text.
    content['added_tokens'] = [t for t in content['added_tokens'] if t['content'] in (BOS, EOS)]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    bos, vocab_size = tokenizer.token_to_id(BOS), tokenizer.get_vocab_size()
    start = time.monotonic()
    train_tokens = encode(tokenizer, read_documents(train))
    documents = read_documents(heldout)
    tokens = encode(tokenizer, documents)
    num_bytes = sum(len(document.encode()) for document in documents)
    model = NgramModel(train_tokens, vocab_size, order, bos)
    bits = -np.log2(model.probabilities(tokens))
    is_bos = tokens == bos
    return {'order': order, 'train_tokens': len(train_tokens), 'vocab_size': vocab_size,
            'ngrams': {n: len(keys) for n, keys in model.keys.items()},
            'documents': len(documents), 'bytes': num_bytes, 'tokens': int(len(tokens)),
            'bytes_per_token': num_bytes / int((~is_bos).sum() - len(documents)),
            # Each document's tokens and its end; its BOS is given.
            'bits_per_byte': float(bits[~is_bos].sum() / num_bytes),
            'loss': float(bits[~is_bos].mean() * math.log(2)),
            # Every token of the packed stream but the first, as training sees it.
            'packed_bits_per_byte': float(bits[1:].sum() / num_bytes),
            'packed_loss': float(bits[1:].mean() * math.log(2)),
            'seconds': time.monotonic() - start}


# ---- test -------------------------------------------------------------------------------------


class SlowModel:
    """The same from the definition, with dictionaries."""

    def __init__(self, tokens, vocab_size, order, bos):
        self.vocab_size = vocab_size
        grams = {n: [tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1)]
                 for n in range(1, order + 1)}
        self.counts = {}
        for n in range(1, order + 1):
            counts = {}
            for gram in grams[n]:
                counts[gram] = counts.get(gram, 0) + 1
            if n < order:
                before = {}
                for gram in grams[n + 1]:
                    before.setdefault(gram[1:], set()).add(gram[0])
                counts = {gram: count if gram[0] == bos else len(before.get(gram, ()))
                          for gram, count in counts.items()}
            self.counts[n] = counts
        self.discounts = {n: self.discounts_of(counts.values()) for n, counts in self.counts.items()}

    @staticmethod
    def discounts_of(counts):
        n1, n2, n3, n4 = (max(sum(c == k for c in counts), 1) for k in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        raw = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        return [0, *(min(max(d, 0), k) for k, d in enumerate(raw, 1))]

    def probability(self, history, word):
        lower = self.probability(history[1:], word) if history else 1 / self.vocab_size
        n = len(history) + 1
        followers = {g: c for g, c in self.counts[n].items() if g[:-1] == history}
        total = sum(followers.values())
        if not followers:
            return lower
        discount = {g: self.discounts[n][min(c, 3)] for g, c in followers.items()}
        gram = (*history, word)
        part = (followers[gram] - discount[gram]) / (total or 1) if gram in followers else 0
        return part + sum(discount.values()) / (total or 1) * lower


def test():
    # By hand, order 1: counts 3, 2, 1 of five words. n1 = n2 = n3 = 1, n4 counts as 1:
    # y = 1/3, discounts 1/3, 1, 5/3 of 6; they leave 3/6 to the five words alike.
    # No word is BOS, and in an order 1 model the counts are plain.
    model = NgramModel([1, 1, 1, 2, 2, 3], 5, 1, bos=0)
    expected = [(3 - 5 / 3) / 6 + .1, (2 - 1) / 6 + .1, (1 - 1 / 3) / 6 + .1]
    assert np.allclose(model.probabilities([1, 2, 3, 4]), [*expected, .1])

    for seed in range(20):
        rng = random.Random(seed)
        bos, vocab_size, order = 0, rng.randint(4, 9), rng.randint(1, 4)
        tokens = []
        for _ in range(rng.randint(2, 12)):
            tokens += [bos, *rng.choices(range(1, vocab_size - 1), k=rng.randint(1, 15))]
        fast, slow = (make(tokens, vocab_size, order, bos) for make in (NgramModel, SlowModel))
        for _ in range(20):
            history = rng.choices(range(1, vocab_size), k=rng.randint(0, 5))
            stream = [bos, *history]
            usable = tuple(stream[max(0, len(stream) - order + 1):]) if order > 1 else ()
            total = 0
            for word in range(vocab_size):
                got = fast.probabilities([*stream, word])[-1]
                assert math.isclose(got, slow.probability(usable, word), rel_tol=1e-9), seed
                total += got
            assert math.isclose(total, 1, rel_tol=1e-9), (seed, total)
    # A wrong discount is seen: these are no longer the probabilities of the definition.
    model = NgramModel([0, 1, 2, 1, 2, 1, 3], 5, 2, bos=0)
    before = model.probabilities([0, 1, 2])
    model.parts[2] *= 0.9
    assert not np.allclose(before, model.probabilities([0, 1, 2]))
    print('all as by the definition')
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('verb', choices=['score', 'test'])
    parser.add_argument('paths', nargs='*')
    parser.add_argument('--order', type=int, default=5)
    parser.add_argument('--json', action='store_true')
    arguments = parser.parse_args()
    if arguments.verb == 'test':
        return test()
    result = score(*arguments.paths, arguments.order)
    print(json.dumps(result) if arguments.json else
          '\n'.join(f'{key:22}{value}' for key, value in result.items()))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
