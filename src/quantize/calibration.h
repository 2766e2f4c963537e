// quantize/calibration.h: the text that a model reads while it is quantized.
#ifndef BALEEN_QUANTIZE_CALIBRATION_H_
#define BALEEN_QUANTIZE_CALIBRATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace baleen {

// Prose, code and conversations that come with Baleen; data/README.md beside this file names their
// sources and licences.
std::string_view ShippedCalibrationText();

// Plain text, one document; or lines of JSON, each {"text": "..."} or {"messages": [{"role": "...",
// "content": "..."}]}, which are rendered in the model's own chat format.
struct CalibrationText {
  std::string name;  // for the report
  std::string text;
};

struct CalibrationWindows {
  std::vector<std::vector<int32_t>> training;  // that scales and updates are made from
  std::vector<std::vector<int32_t>> held_out;  // that perplexity is measured on
};

// Encodes all documents, one behind the other, and cuts them into windows of window_tokens, each
// with the model's BOS before it if it has one. Every eighth window is held out, up to
// max_held_out_tokens; of the others, evenly spread ones are kept, up to max_tokens.
// Errors: kNotFound, a model without a tokenizer; kCorruption, lines of JSON that are none of the
// above; kInvalidArgument, too little text for two windows.
CalibrationWindows MakeCalibrationWindows(const CalibrationText& text, const TextSide& model,
                                          size_t window_tokens, size_t max_tokens,
                                          size_t max_held_out_tokens);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_CALIBRATION_H_
