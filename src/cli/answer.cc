#include "cli/answer.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"

namespace baleen {

namespace {

constexpr const char* kDim = "\x1b[2m";
constexpr const char* kNormal = "\x1b[0m";

// Writes an answer's two parts as they come. Threads: the engine's, then the one that waited.
class AnswerWriter {
 public:
  explicit AnswerWriter(bool stream)
      : stream_(stream),
        terminal_(StdoutIsTerminal()),
        color_(terminal_ && std::getenv("NO_COLOR") == nullptr) {}

  void Write(const ReasoningSplitter::Delta& delta) {
    if (!stream_) return;
    if (!delta.reasoning.empty()) WriteReasoning(delta.reasoning);
    if (!delta.content.empty()) WriteContent(delta.content);
    std::fflush(stdout);
  }

  // What follows needs a line of its own, whatever the answer ended with.
  void Finish() {
    if (!stream_) return;
    EndReasoning();
    if (!at_line_start_) Put(stdout, "\n");
    std::fflush(stdout);
  }

 private:
  void WriteReasoning(const std::string& text) {
    if (!in_reasoning_ && color_) Put(stdout, kDim);
    in_reasoning_ = true;
    Put(terminal_ ? stdout : stderr, terminal_ ? ForTerminal(text) : text);
    at_line_start_ = text.back() == '\n';
  }

  void WriteContent(const std::string& text) {
    EndReasoning();
    Put(stdout, terminal_ ? ForTerminal(text) : text);
    at_line_start_ = text.back() == '\n';
  }

  void EndReasoning() {
    if (!in_reasoning_) return;
    in_reasoning_ = false;
    if (color_) Put(stdout, kNormal);
    if (!at_line_start_) Put(terminal_ ? stdout : stderr, "\n");
    at_line_start_ = true;
  }

  // A reader that has gone is noticed once, by FlushOutput at the end.
  static void Put(FILE* file, std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), file);
  }

  const bool stream_;
  const bool terminal_;
  const bool color_;
  bool in_reasoning_ = false;
  bool at_line_start_ = true;
};

}  // namespace

AnswerRecord Answer(Engine& engine, const Prompt& prompt, const AnswerOptions& options) {
  AnswerRecord answer;
  answer.prompt_token_ids = prompt.token_ids;
  answer.with_logprobs = options.request.num_logprobs >= 0;
  if (engine.info().can_reason && prompt.chat) answer.reasoning = "";

  std::unique_ptr<ReasoningSplitter> splitter;
  if (prompt.chat) splitter = engine.MakeReasoningSplitter(*prompt.chat);
  AnswerWriter writer(options.stream);
  const auto take = [&](const ReasoningSplitter::Delta& delta) {
    writer.Write(delta);
    answer.content += delta.content;
    if (!delta.reasoning.empty())
      answer.reasoning = answer.reasoning.value_or("") + delta.reasoning;
  };

  Progress progress(fmt::format("answering a prompt of {} tokens", prompt.token_ids.size()));
  size_t num_tokens = 0;
  Request request = options.request;
  request.prompt_token_ids = prompt.token_ids;
  const auto generation = engine.Submit(std::move(request), [&](const Chunk& chunk) {
    num_tokens += chunk.tokens.size();
    if (options.stream && num_tokens > 0) progress.Finish();
    progress.Update(num_tokens, options.request.max_tokens.value_or(0));
    if (chunk.text.empty()) return;
    take(splitter ? splitter->Push(chunk.text)
                  : ReasoningSplitter::Delta{.reasoning = "", .content = chunk.text});
  });
  {
    const InterruptScope scope([&] { generation->Cancel(); });
    answer.completion = generation->Wait();
  }
  progress.Finish();
  if (splitter) take(splitter->Flush());
  writer.Finish();
  return answer;
}

}  // namespace baleen
