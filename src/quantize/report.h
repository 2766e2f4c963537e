// quantize/report.h: what a quantization did, for programs and for people.
#ifndef BALEEN_QUANTIZE_REPORT_H_
#define BALEEN_QUANTIZE_REPORT_H_

#include <string>

#include "quantize/quantize.h"

namespace baleen {

// One JSON object; the keys are those of `baleen quantize --json`.
std::string ReportJson(const QuantizeReport& report, const QuantizeOptions& options);
// A page that needs nothing beside it: figures, plots (SVG) and the table of all matrices.
std::string ReportHtml(const QuantizeReport& report, const QuantizeOptions& options);

// For the state of an interrupted run: the tensors alone, and back.
std::string TensorsJson(const std::vector<TensorReport>& tensors);
std::vector<TensorReport> ParseTensorsJson(const std::string& json, const std::string& source);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_REPORT_H_
