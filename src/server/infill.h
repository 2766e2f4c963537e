// server/infill.h: llama.cpp's /infill, which editors' plugins (llama.vim, llama.vscode) speak.
//
// Its fields: input_prefix, input_suffix, input_extra [{filename, text}], prompt (typed already in
// the gap), n_predict, n_indent, t_max_predict_ms, response_fields, n_cmpl, and those of
// /v1/completions. Its answer is llama.cpp's too, streamed or whole. What the context cannot hold
// is cut, not refused. Without a temperature the likeliest tokens are taken: llama.cpp's sampler
// "infill", which plugins ask for, all but does so. Of several completions (n_cmpl) that holds for
// the first; the others are drawn at kAlternativeTemperature, or they would all be the same.
#ifndef BALEEN_SERVER_INFILL_H_
#define BALEEN_SERVER_INFILL_H_

#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/answer.h"
#include "server/answer_plan.h"
#include "server/http.h"

namespace baleen {

constexpr float kAlternativeTemperature = 0.8F;  // llama.cpp's default

struct InfillPlan {
  AnswerPlan answer;                // one prompt
  float temperature_of_others = 0;  // of all completions but the first
  bool truncated = false;           // texts were cut to fit
  size_t min_indent = 0;            // a line below it, after the first, ends the answer
  double max_predict_seconds = 0;   // since the first token, once a line is complete; 0: no limit
  std::vector<std::string> response_fields;  // all that is told, flat; empty: everything
};

// Errors: ApiError 400.
InfillPlan PlanInfill(const Engine& engine, const Fields& fields, bool force_fim);

// As StartAnswer.
void StartInfill(Engine& engine, InfillPlan plan, std::string id, std::string model,
                 std::shared_ptr<Exchange> exchange, AnswerHooks hooks);

// Ends a text before the first line, after its first one, that is indented by fewer than
// `min_indent` blanks or tabs. Blank lines do not end it.
class IndentLimit {
 public:
  explicit IndentLimit(size_t min_indent) : min_indent_(min_indent) {}
  // What may be shown of the text so far; the rest is held back.
  std::string Push(std::string_view text);
  std::string Flush() { return stopped_ ? "" : std::exchange(held_, ""); }
  bool stopped() const { return stopped_; }
  bool has_newline() const { return has_newline_; }

 private:
  size_t min_indent_;
  std::string held_;  // blanks at the beginning of a line
  bool at_line_start_ = false;
  bool has_newline_ = false;
  bool stopped_ = false;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_INFILL_H_
