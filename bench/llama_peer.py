"""A model in llama.cpp or its fork, through their low-level bindings from PyPI.

    llama-cpp-python      build it from its source for the machine at hand:
                          CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python
    ik-llama-cpp-python   the fork; its wheel is AVX2 code, whatever the machine has

Both are asked for flash attention; the fork also for its fused experts and repacked weights.
"""

import contextlib
import os

LIBRARIES = ("llama_cpp", "ik_llama_cpp")


@contextlib.contextmanager
def quiet():
    """What the libraries tell on standard error goes nowhere."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def load_library(name):
    """(bindings, the package's version)"""
    if name == "llama_cpp":
        import llama_cpp
        return llama_cpp, llama_cpp.__version__
    import ik_llama_cpp
    from ik_llama_cpp import _ctypes_api
    return _ctypes_api, ik_llama_cpp.__version__


class Peer:
    """`context` tokens of the cache for all `sequences` together, `batch` at most in one call."""

    def __init__(self, library, model, *, context, batch=512, sequences=1, threads=1):
        self.api, self.version = load_library(library)
        self.is_fork = library == "ik_llama_cpp"
        with quiet():
            self.api.llama_backend_init()
            params = self.api.llama_model_default_params()
            if self.is_fork:
                params.repack_tensors, params.use_mmap = True, False
            self.model = self.api.llama_model_load_from_file(os.fsencode(model), params)
            if not self.model:
                raise SystemExit(f"{library}: cannot load {model}")
            params = self.api.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = context, batch, min(batch, 512)
            params.n_seq_max = sequences
            params.n_threads = params.n_threads_batch = threads
            if self.is_fork:
                params.flash_attn, params.mla_attn, params.fused_moe_up_gate = True, 3, True
            else:
                params.flash_attn_type = 1
                params.kv_unified = True
                params.n_outputs_max = batch
            self.context = self.api.llama_init_from_model(self.model, params)
            if not self.context:
                raise SystemExit(f"{library}: cannot open {model}")
        vocab = self.api.llama_model_get_vocab(self.model)
        self.vocab_size = self.api.llama_vocab_n_tokens(vocab)
        self.batch = self.api.llama_batch_init(batch, 0, 1)

    def clear(self):
        if self.is_fork:
            self.api.llama_kv_cache_clear(self.context)
        else:
            self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def decode(self, rows):
        """`rows` of (token, position, sequence, whether its logits are wanted)."""
        self.batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i] = token
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = wanted
        with quiet():
            code = self.api.llama_decode(self.context, self.batch)
        if code != 0:
            raise SystemExit(f"llama_decode failed with {code}")

    def logits(self, row):
        """Of a row of the last call."""
        import numpy  # the bindings need it; who measures Baleen alone does not

        pointer = self.api.llama_get_logits_ith(self.context, row)
        return numpy.ctypeslib.as_array(pointer, (self.vocab_size,)).copy()
