#include "evaluation/infilling.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

#include "base/error.h"
#include "base/json_lines.h"

namespace baleen {

namespace {

constexpr std::string_view kLineEnd = "\n";
// A prompt of fewer tokens would say next to nothing.
constexpr size_t kMinPromptTokens = 16;

std::string_view WithoutTrailingBlanks(std::string_view text) {
  return text.substr(0, text.find_last_not_of(" \t\r\n\f\v") + 1);
}

class Runner {
 public:
  Runner(Engine& engine, std::span<const InfillingProblem> problems,
         const InfillingOptions& options)
      : engine_(engine),
        problems_(problems),
        options_(options),
        answer_tokens_(std::min(options.max_answer_tokens, engine.info().max_context_tokens / 4)) {
    const size_t context_tokens = engine.info().max_context_tokens;
    if (context_tokens < kMinPromptTokens + answer_tokens_ || answer_tokens_ == 0) {
      Throw(ErrorCode::kInvalidArgument,
            "a context of {} tokens has no room for a text with a hole and an answer",
            context_tokens);
    }
    prompt_tokens_ = context_tokens - answer_tokens_;
    // An empty text with a hole is nothing but control tokens, none of which belongs to an answer.
    control_tokens_ = engine.EncodeFim({});
  }

  ~Runner() {
    for (const auto& generation : in_flight_) generation->Cancel();
  }

  Infilling Run() {
    for (size_t i = 0; i < problems_.size(); ++i) {
      if (in_flight_.size() == std::max<size_t>(options_.num_in_flight, 1)) FinishOldest();
      Submit(problems_[i]);
    }
    while (!in_flight_.empty()) FinishOldest();
    const auto n = static_cast<double>(problems_.size());
    result_.share = static_cast<double>(result_.num_exact) / n;
    result_.standard_error = std::sqrt(result_.share * (1 - result_.share) / n);
    return std::move(result_);
  }

 private:
  void Submit(const InfillingProblem& problem) {
    FimPrompt prompt = {.prefix = problem.prefix, .suffix = problem.suffix, .snippets = {}};
    std::vector<int32_t> ids = engine_.EncodeFim(prompt);
    InfillingAnswer answer;
    if (ids.size() > prompt_tokens_) {
      answer.cut_prompt = true;
      ++result_.num_cut_prompts;
      prompt.max_tokens = prompt_tokens_;
      ids = engine_.EncodeFim(prompt);
    }
    Request request;
    request.prompt_token_ids = std::move(ids);
    request.max_tokens = answer_tokens_;
    request.stop = {std::string(kLineEnd)};
    request.stop_token_ids = control_tokens_;
    request.priority = Priority::kBatch;
    in_flight_.push_back(engine_.Submit(std::move(request)));
    result_.answers.push_back(std::move(answer));
  }

  void FinishOldest() {
    if (options_.cancelled && options_.cancelled()) Throw(ErrorCode::kCancelled, "interrupted");
    const InfillingProblem& problem = problems_[num_done_];
    InfillingAnswer& answer = result_.answers[num_done_];
    answer.text = in_flight_.front()->Wait().text;
    in_flight_.pop_front();
    answer.exact = WithoutTrailingBlanks(answer.text) == WithoutTrailingBlanks(problem.solution);
    if (answer.exact) ++result_.num_exact;
    ++num_done_;
    if (options_.on_progress) options_.on_progress(num_done_, problems_.size());
  }

  Engine& engine_;
  const std::span<const InfillingProblem> problems_;
  const InfillingOptions& options_;
  const size_t answer_tokens_;
  size_t prompt_tokens_ = 0;
  std::vector<int32_t> control_tokens_;
  std::deque<std::shared_ptr<Generation>> in_flight_;  // the oldest first
  size_t num_done_ = 0;
  Infilling result_;
};

}  // namespace

std::vector<InfillingProblem> ReadInfillingProblems(std::string_view content,
                                                    const std::string& path) {
  std::vector<InfillingProblem> problems;
  ForEachJsonLine(content, path, [&](const JsonLine& line) {
    const JsonDocument& document = line.document;
    const std::string_view solution = document.String("canonical_solution");
    if (WithoutTrailingBlanks(solution).find('\n') != std::string_view::npos) {
      Throw(ErrorCode::kUnimplemented,
            "{}: the solution has several lines; this task compares a single one",
            document.source());
    }
    problems.push_back({std::string(document.String("task_id")),
                        std::string(document.String("prompt")),
                        std::string(document.String("suffix")), std::string(solution)});
  });
  if (problems.empty()) Throw(ErrorCode::kCorruption, "{}: no problem is in it", path);
  return problems;
}

Infilling MeasureInfilling(Engine& engine, std::span<const InfillingProblem> problems,
                           const InfillingOptions& options) {
  if (problems.empty()) Throw(ErrorCode::kInvalidArgument, "no problem is given");
  return Runner(engine, problems, options).Run();
}

}  // namespace baleen
