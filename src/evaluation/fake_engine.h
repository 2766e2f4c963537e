// evaluation/fake_engine.h: an engine for tests, whose every answer can be worked out by hand.
//
// A token is a byte of the text. The next token after `id` has the probability 1/2 if it is id + 1
// and else 1 / 2^(2 + its distance mod 3): any value would do, it only must depend on both tokens.
// Expert of token i of a window in layer l: (token + l + j) mod 8 for choice j, weight token + j.
// A text with a hole is BOS, 250, its prefix, 251, its suffix, 252; cut from the prefix's
// beginning. Work: a prompt token costs 10 bytes, a decoded one 100; the roof takes 1 ms for each
// call.
#ifndef BALEEN_EVALUATION_FAKE_ENGINE_H_
#define BALEEN_EVALUATION_FAKE_ENGINE_H_

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "baleen/engine.h"

namespace baleen {

class FakeEngine : public Engine {
 public:
  FakeEngine() {
    info_.name = "fake";
    info_.vocab_size = 256;
    info_.max_context_tokens = 1024;
    info_.num_experts_per_tok = 2;
    info_.bos_token_id = 1;
  }

  ModelInfo& mutable_info() { return info_; }
  // What ScoreTokens was given.
  std::vector<std::vector<int32_t>> scored;
  // What Submit was given.
  std::vector<Request> submitted;
  bool gives_nan = false;
  // The text of an answer, before its stop texts and tokens are looked for.
  std::function<std::string(const Request&)> answer;

  static double Logprob(int32_t id, int32_t next) {
    const int32_t distance = (next - id + 256) % 256;
    return distance == 1 ? -std::log(2.0) : -(2 + distance % 3) * std::log(2.0);
  }

  const ModelInfo& info() const override { return info_; }
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_bos && info_.bos_token_id >= 0) ids.push_back(info_.bos_token_id);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string Decode(std::span<const int32_t> ids, bool) const override {
    return std::string(ids.begin(), ids.end());
  }
  std::string TokenBytes(int32_t id) const override {
    return std::string(1, static_cast<char>(id));
  }
  std::vector<int32_t> EncodeFim(const FimPrompt& prompt) const override {
    if (!info_.has_fim_tokens) throw Error(ErrorCode::kUnimplemented, "no tokens for holes");
    const size_t size = 4 + prompt.prefix.size() + prompt.suffix.size();
    const size_t cut =
        prompt.max_tokens > 0 && size > prompt.max_tokens ? size - prompt.max_tokens : 0;
    std::vector<int32_t> ids = {info_.bos_token_id, 250};
    for (const char c : prompt.prefix.substr(cut)) ids.push_back(static_cast<unsigned char>(c));
    ids.push_back(251);
    for (const char c : prompt.suffix) ids.push_back(static_cast<unsigned char>(c));
    ids.push_back(252);
    return ids;
  }
  EncodedChat RenderChat(std::span<const ChatMessage>, const ChatOptions&) const override {
    throw Error(ErrorCode::kUnimplemented, "no chat template");
  }
  std::unique_ptr<ReasoningSplitter> MakeReasoningSplitter(const EncodedChat&) const override {
    return nullptr;
  }

  std::shared_ptr<const Grammar> CompileGrammar(const GrammarSpec&) const override {
    throw Error(ErrorCode::kUnimplemented, "no grammars");
  }

  std::shared_ptr<Generation> Submit(Request request, ChunkCallback on_chunk,
                                     EndCallback on_end) override;

  Score ScoreTokens(ScoreRequest request) override {
    scored.push_back(request.token_ids);
    Score score;
    for (size_t i = 0; i + 1 < request.token_ids.size(); ++i) {
      score.logprobs.push_back(
          static_cast<float>(Logprob(request.token_ids[i], request.token_ids[i + 1])));
    }
    if (gives_nan) score.logprobs.back() = std::numeric_limits<float>::quiet_NaN();
    for (const size_t layer : {1, 2}) {
      if (!request.routing || info_.num_experts_per_tok == 0) break;
      RoutingTrace trace{.layer = layer, .experts = {}, .weights = {}};
      for (const int32_t id : request.token_ids) {
        for (int32_t j = 0; j < 2; ++j) {
          trace.experts.push_back((id + static_cast<int32_t>(layer) + j) % 8);
          trace.weights.push_back(static_cast<float>(id + j));
        }
      }
      score.routing.push_back(std::move(trace));
    }
    return score;
  }

  EngineStats Stats() const override { return {}; }
  Roof MeasureRoof() override { return {}; }
  Work TotalWork() const override { return work_; }

 private:
  friend class FakeGeneration;
  ModelInfo info_;
  Work work_;
};

// The whole answer is given within Submit: token i of it is i, and its text is that of
// FakeEngine::answer.
class FakeGeneration : public Generation {
 public:
  void Cancel() override {}
  const Completion& Wait() override { return completion; }
  Completion completion;
};

// Up to the first stop text or stop token, a byte being a token.
inline std::string CutAnswer(std::string text, const Request& request) {
  for (const std::string& stop : request.stop) text.resize(std::min(text.size(), text.find(stop)));
  for (const int32_t id : request.stop_token_ids) {
    text.resize(std::min(text.size(), text.find(static_cast<char>(id))));
  }
  return text.substr(0, request.max_tokens.value_or(text.size()));
}

inline std::shared_ptr<Generation> FakeEngine::Submit(Request request, ChunkCallback on_chunk,
                                                      EndCallback on_end) {
  submitted.push_back(request);
  auto generation = std::make_shared<FakeGeneration>();
  work_.weight_bytes += 10 * request.prompt_token_ids.size();
  work_.roof_seconds += 0.001;
  for (size_t i = 0; i < request.max_tokens.value_or(0); ++i) {
    if (i > 0) {
      work_.weight_bytes += 100;
      work_.roof_seconds += 0.001;
    }
    const GeneratedToken token{.token_id = static_cast<int32_t>(i), .top = {}};
    generation->completion.tokens.push_back(token);
    if (on_chunk) on_chunk({.text = "", .tokens = {token}, .prompt = {}});
  }
  if (answer) generation->completion.text = CutAnswer(answer(request), request);
  if (on_end) on_end(generation->completion, nullptr);
  return generation;
}

// Of the Error that a call throws; 0 if it throws none.
inline ErrorCode CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode{0};
}

}  // namespace baleen

#endif  // BALEEN_EVALUATION_FAKE_ENGINE_H_
