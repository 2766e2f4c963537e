// evaluation/infilling.h: how often a model finds the line that was taken out of a program.
//
// Definition: for each problem the model reads its fill-in-the-middle prompt (Engine::EncodeFim)
// and takes the likeliest token until a line ends, it says that it has ended, or it has said
// max_answer_tokens. The answer is exact if it is the line that was taken out, with the blanks
// before it, white space at the end of either left aside. Nothing is executed.
#ifndef BALEEN_EVALUATION_INFILLING_H_
#define BALEEN_EVALUATION_INFILLING_H_

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "baleen/engine.h"

namespace baleen {

struct InfillingProblem {
  std::string task_id;
  std::string prefix;    // what stands before the hole
  std::string suffix;    // and after it
  std::string solution;  // one line
};

// From the JSON lines of OpenAI's HumanEval-Infilling: task_id, prompt, suffix, canonical_solution
// (https://github.com/openai/human-eval-infilling); other fields are not read. `path` is for
// errors. Errors: kCorruption, a line that is no such object, or no line; kUnimplemented, a
// solution of several lines.
std::vector<InfillingProblem> ReadInfillingProblems(std::string_view content,
                                                    const std::string& path);

struct InfillingOptions {
  size_t max_answer_tokens = 128;  // fewer where the context is small: at most a quarter of it
  size_t num_in_flight = 32;       // requests that the engine has at a time
  std::function<void(size_t done, size_t total)> on_progress;
  // Asked before each answer is waited for; true ends the work with Error{kCancelled}.
  std::function<bool()> cancelled;
};

struct InfillingAnswer {
  std::string text;  // without the end of the line
  bool exact = false;
  bool cut_prompt = false;  // what was far from the hole did not fit the context
};

struct Infilling {
  std::vector<InfillingAnswer> answers;  // in the order of the problems
  size_t num_exact = 0;
  size_t num_cut_prompts = 0;
  double share = 0;           // num_exact / problems
  double standard_error = 0;  // of the share, as of independent draws: sqrt(p (1 - p) / n)
};

// Errors: kInvalidArgument, no problem, or a context too small for a prompt; as Engine::EncodeFim
// (kUnimplemented, a vocabulary without the tokens), Submit and Wait; kCancelled.
Infilling MeasureInfilling(Engine& engine, std::span<const InfillingProblem> problems,
                           const InfillingOptions& options);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_INFILLING_H_
