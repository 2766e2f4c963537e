// baleen/options.h: how an engine is opened.
//
// Plain data; the standard library only.
#ifndef BALEEN_OPTIONS_H_
#define BALEEN_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace baleen {

// The arithmetic of products. kAuto uses weights as stored, with F32 activations where the CPU has
// no BF16 products; kF32 multiplies everything in F32; kBf16 is kAuto with BF16 preferred.
enum class Precision { kAuto, kF32, kBf16 };

// The latent cache. kAuto: F32 with Precision::kF32, else BF16. kInt8 keeps the latents in 8 bits
// with a scale for each 128, and the rope key in BF16: 57 % of the bytes of BF16.
enum class CacheDType { kAuto, kF32, kBf16, kInt8 };

// Whether a prompt that begins as an earlier one did, or as its answer, skips that part. kAll
// reuses all of it; kExact only what gives the same answer, bit for bit, as computing it would: the
// two forms of attention differ in the last bits, and which one a fresh run takes depends on the
// length of its prompt.
enum class PrefixReuse { kNone, kExact, kAll };

struct EngineOptions {
  size_t num_threads = 0;  // 0: one for each CPU that this process may use
  std::string isa;         // "": the best that the CPU has; else the name of a target, or refused
  Precision precision = Precision::kAuto;
  CacheDType cache_dtype = CacheDType::kAuto;
  // For weights, cache and scratch together; 0: what is free. If the weights are larger, routed
  // experts are read from disk as tokens choose them, and those that are chosen most are kept.
  uint64_t memory_limit_bytes = 0;
  size_t max_context_tokens = 0;      // of one sequence; 0: what the model was made for
  size_t max_sequences = 16;          // that are computed together
  size_t prefill_chunk_tokens = 512;  // of prompts in one step
  PrefixReuse prefix_reuse = PrefixReuse::kNone;
  double max_decode_wait_seconds = 0.25;  // of answers that grow, for prompts; at least a layer's
  size_t max_waiting_tokens = 0;  // prompts that may wait for their turn, together; 0: no limit
  bool tokenizer_only = false;    // opens no weights: Encode, Decode and RenderChat work
};

}  // namespace baleen

#endif  // BALEEN_OPTIONS_H_
