// quantize/quantize.h: a checkpoint directory in, a GPTQ directory out, a layer at a time.
//
// The text that calibrates stands between two layers: each layer's inputs come from the layers
// before it as they were quantized. Inside a layer, in the order of the data: attention's
// projections, from inputs that the layer as stored computes; gate and up of every network; down,
// from what the quantized gate and up make. In memory are one layer's weights, and the residual
// stream of the text.
#ifndef BALEEN_QUANTIZE_QUANTIZE_H_
#define BALEEN_QUANTIZE_QUANTIZE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "quantize/calibration.h"
#include "quantize/gptq.h"

namespace baleen {

// What becomes of attention's projections to and from latents (kv_a_proj_with_mqa, kv_b_proj,
// q_a_proj): all keys depend on them, and they are hardly any bytes.
enum class SmallProjections { kStored, kEightBits };

struct QuantizeOptions {
  RoundingOptions rounding;
  SmallProjections small_projections = SmallProjections::kStored;
  std::optional<CalibrationText> calibration;  // unset: the text that comes with Baleen
  size_t window_tokens = 2048;                 // of text in one piece, or the model's context
  size_t max_tokens = 65536;                   // to calibrate with, one window at least
  size_t max_held_out_tokens = 16384;          // to measure perplexity on
  size_t num_threads = 0;                      // 0: all that this process may use
  std::string isa;
  // Told of quantized weights, done and in all.
  std::function<void(uint64_t done, uint64_t total)> on_progress;
  std::function<bool()> cancelled;
};

// What became of one matrix.
struct TensorReport {
  std::string name;
  size_t bits = 0;
  QuantizeMethod method = QuantizeMethod::kGptq;
  // Mean squared change of the layer's output, or, without calibration, of the weights; each as a
  // part of the square that is changed.
  double error = 0;
  double damp = 0;
  uint64_t tokens = 0;         // that it was calibrated with
  double borrowed_tokens = 0;  // those of all experts, mixed in where its own were few
};

struct QuantizeReport {
  std::vector<TensorReport> tensors;
  std::vector<std::string> kept;  // matrices that stay as they were, although linear layers
  std::string calibration_name, calibration_sha256;
  uint64_t calibration_tokens = 0, held_out_tokens = 0;
  double perplexity_before = 0, perplexity_after = 0;  // on the held-out part of that text
  uint64_t bytes_before = 0, bytes_after = 0;
  double seconds = 0;
  size_t resumed_layers = 0;
};

// Writes DST: config.json, quantize_config.json, safetensors, tokenizer, and the report. Until it
// is whole it is DST.partial, which a second call with the same source and options takes up where
// the first was interrupted. Errors: those of OpenCheckpoint; kInvalidArgument, DST exists or
// DST.partial is of other work; kUnimplemented, a source that is quantized already or a GGUF file;
// kCorruption, weights that are no numbers; kResourceExhausted, before the work starts, if the disk
// is too small; kCancelled.
QuantizeReport Quantize(const std::string& source, const std::string& destination,
                        const QuantizeOptions& options);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_QUANTIZE_H_
