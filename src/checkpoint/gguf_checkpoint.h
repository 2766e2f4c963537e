// checkpoint/gguf_checkpoint.h: a GGUF file seen as the Hugging Face checkpoint it was made from.
//
// Keys become a config.json, tensors get their Hugging Face names and shapes, so that everything
// behind (ParseConfig, LoadWeights) has one kind of checkpoint to check. Architecture "deepseek2"
// only, in which converters write V2, V3, R1, Moonlight and Kimi-K2. docs/formats/gguf.md has the
// tables.
#ifndef BALEEN_CHECKPOINT_GGUF_CHECKPOINT_H_
#define BALEEN_CHECKPOINT_GGUF_CHECKPOINT_H_

#include <memory>
#include <string>

#include "checkpoint/checkpoint.h"
#include "formats/gguf.h"

namespace baleen {

// The config.json that the keys stand for. What old converters left out takes the value that their
// readers assumed: softmax scores, no normalisation, no groups of experts.
// Errors: kUnimplemented, another architecture, by name; kCorruption, a key is missing or makes no
// sense.
std::string GgufConfigJson(const GgufModel& model);

// The tensors under Hugging Face names. Experts are slices of the stacked tensors. Where the file
// has the up-projection of keys and values in two tensors (attn_k_b transposed, attn_v_b), the one
// of the checkpoint is rebuilt in memory: exact values, in the file's type if that is F16 or BF16,
// else in F32. If the two are in Q4_0 or Q8_0, that waits until somebody asks for it, and they are
// found as they are, though not listed, by the names below. The result keeps `model` alive.
// Errors: kCorruption, tensors whose shapes do not fit the config.
inline constexpr const char* kKeyHalf = "k_b_proj.weight";  // behind "model.layers.N.self_attn."
inline constexpr const char* kValueHalf = "v_b_proj.weight";
std::shared_ptr<const WeightSource> GgufWeights(std::shared_ptr<const GgufModel> model,
                                                const ModelConfig& config);

// Tokenizer, stop tokens and chat template from the keys of tokenizer.ggml.
// Errors: as OpenCheckpoint.
TextSide GgufText(const GgufModel& model);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_GGUF_CHECKPOINT_H_
