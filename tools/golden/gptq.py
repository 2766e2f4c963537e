#!/usr/bin/env python3
"""Rounds a matrix with GPTQ in PyTorch, and packs random codes in numpy: two files of tests/golden.

    python tools/golden/gptq.py            writes gptq.safetensors and gptq_layout.safetensors
    python tools/golden/gptq.py check DIR SRC
        Decodes every matrix of the GPTQ directory DIR with numpy alone, and compares with the
        weights of SRC, from which it was made: prints the relative error of each kind of matrix.

gptq.safetensors: inputs x, weights w, and what the loop of arXiv:2210.17323 makes of w in F64, with
the inverse of H written out and its Cholesky factor taken, column by column, without blocks.
gptq_layout.safetensors: matrices as GPTQ directories hold them (format.md's table, packed bit by
bit), and NAME.expected, their values.
"""
import collections
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_scale(w, bits, symmetric):
    """scale [rows, 1] (rounded to F16) and zero for the columns of w."""
    low, high = w.min(1).values.clamp(max=0), w.max(1).values.clamp(min=0)
    if symmetric:
        scale = 2 * torch.maximum(-low, high) / (2**bits - 1)
    else:
        scale = (high - low) / (2**bits - 1)
    scale = scale.to(torch.float16).to(torch.float64)
    if symmetric:
        zero = torch.full_like(scale, 2**(bits - 1))
    else:
        zero = torch.clamp(torch.round(-low / scale), 1, 2**bits - 1)
    return scale, zero


def gptq(w, x, bits, group, order, static, symmetric, damp=0.01):
    rows, cols = w.shape
    group = group or cols
    h = x.T @ x / len(x)
    perm = torch.argsort(torch.diag(h), descending=True, stable=True) if order else torch.arange(cols)
    h = h[perm][:, perm] + damp * torch.diag(h).mean() * torch.eye(cols, dtype=torch.float64)
    u = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    scales = [find_scale(w[:, g:g + group], bits, symmetric) for g in range(0, cols, group)]
    work, out = w[:, perm].clone(), torch.zeros_like(w)
    for j in range(cols):
        if static:
            scale, zero = scales[perm[j] // group]
        elif j % group == 0:
            scale, zero = find_scale(work[:, j:j + group], bits, symmetric)
        code = torch.clamp(torch.round(work[:, j] / scale) + zero, 0, 2**bits - 1)
        value = (code - zero) * scale
        out[:, perm[j]] = value
        work[:, j:] -= torch.outer((work[:, j] - value) / u[j, j], u[j, j:])
    return out


def write_loop():
    generator = torch.Generator().manual_seed(1)
    rows, cols, tokens = 32, 256, 400
    mix = torch.eye(cols) + 0.05 * torch.randn(cols, cols, generator=generator)
    size = torch.exp(torch.randn(cols, generator=generator))
    x = (torch.randn(tokens, cols, generator=generator) @ mix * size).to(torch.bfloat16).double()
    w = torch.randn(rows, cols, generator=generator).to(torch.bfloat16).double()
    results = {
        'natural': gptq(w, x, 4, 128, False, False, True),
        'static': gptq(w, x, 4, 32, True, True, True),
        'desc_act': gptq(w, x, 4, 128, True, False, True),
        'asymmetric': gptq(w, x, 4, 64, True, True, False),
        'bits8': gptq(w, x, 8, 128, True, True, True),
        'row': gptq(w, x, 4, None, True, True, True),
    }
    results = {name: value.float().contiguous() for name, value in results.items()}
    results |= {'x': x.bfloat16(), 'w': w.bfloat16()}
    save_torch(results, ROOT / 'tests/golden/gptq.safetensors')


def pack(codes, bits):
    """codes [n, m] -> words [n * bits / 32, m], the first code in the lowest bits."""
    per = 32 // bits
    words = np.zeros((codes.shape[0] // per, codes.shape[1]), np.uint32)
    for i in range(codes.shape[0]):
        words[i // per] |= (codes[i].astype(np.uint32) << np.uint32(i % per * bits))
    return words


def unpack(words, bits):
    """The reverse, along the first axis."""
    per, mask = 32 // bits, np.uint32(2**bits - 1)
    fields = [(words >> np.uint32(i * bits)) & mask for i in range(per)]
    return np.stack(fields, 1).reshape(-1, words.shape[1])


def write_layout():
    rng = np.random.default_rng(2)
    tensors = {}
    rows, cols = 16, 64
    for version in ('v1', 'v2'):
        for bits in (4, 8):
            for kind in ('symmetric', 'asymmetric', 'act_order', 'row'):
                group = cols if kind == 'row' else 32
                groups = cols // group
                codes = rng.integers(0, 2**bits, (cols, rows))
                zeros = np.full((groups, rows), 2**(bits - 1))
                if kind in ('asymmetric', 'act_order'):
                    zeros = rng.integers(0, 2**bits, (groups, rows))
                scales = rng.uniform(1e-3, 1, (groups, rows)).astype(np.float16)
                g_idx = np.arange(cols) // group
                if kind == 'act_order':
                    g_idx = rng.permutation(g_idx)
                qzeros = pack(zeros.T, bits).T
                if version == 'v1':
                    one = sum(1 << i for i in range(0, 32, bits))
                    qzeros = ((qzeros.astype(np.uint64) - one) & 0xffffffff).astype(np.uint32)
                name = f'{version}.{bits}.{kind}'
                values = scales.astype(np.float32)[g_idx] * (codes - zeros[g_idx]).astype(np.float32)
                tensors |= {
                    f'{name}.qweight': pack(codes, bits).astype(np.int32),
                    f'{name}.qzeros': np.ascontiguousarray(qzeros).astype(np.int32),
                    f'{name}.scales': scales,
                    f'{name}.g_idx': g_idx.astype(np.int32),
                    f'{name}.expected': np.ascontiguousarray(values.T),
                }
    save_file(tensors, ROOT / 'tests/golden/gptq_layout.safetensors')


def open_all(directory):
    found = {}
    for path in sorted(pathlib.Path(directory).glob('*.safetensors')):
        file = safe_open(path, 'pt')
        found |= {name: file for name in file.keys()}
    return found


def decode(tensors, name, config):
    get = lambda part: tensors[f'{name}.{part}'].get_tensor(f'{name}.{part}').numpy()
    qweight, qzeros = get('qweight').view(np.uint32), get('qzeros').view(np.uint32)
    g_idx, scales = get('g_idx'), get('scales').astype(np.float32)
    bits = config['bits']
    if config['checkpoint_format'] == 'gptq':
        one = sum(1 << i for i in range(0, 32, bits))
        qzeros = ((qzeros.astype(np.uint64) + one) & 0xffffffff).astype(np.uint32)
    zeros = unpack(np.ascontiguousarray(qzeros.T), bits).T.astype(np.float32)
    codes = unpack(qweight, bits).astype(np.float32)
    return ((codes - zeros[g_idx]) * scales[g_idx]).T


def check(directory, source):
    config = json.loads((pathlib.Path(directory) / 'quantize_config.json').read_text())
    quantized, stored = open_all(directory), open_all(source)
    errors = collections.defaultdict(list)
    for name in (n[:-8] for n in quantized if n.endswith('.qweight')):
        w = stored[name + '.weight'].get_tensor(name + '.weight').float().numpy()
        d = decode(quantized, name, config)
        errors[name.rsplit('.', 1)[1]].append(((d - w)**2).sum() / (w**2).sum())
    for kind, list_of in errors.items():
        print(f'{kind}: {len(list_of)} matrices, relative squared error {np.mean(list_of):.5f}, '
              f'worst {np.max(list_of):.5f}')


if __name__ == '__main__':
    if sys.argv[1:2] == ['check']:
        check(*sys.argv[2:])
    else:
        write_loop()
        write_layout()
