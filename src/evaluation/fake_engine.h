// evaluation/fake_engine.h: an engine for tests, whose every answer can be worked out by hand.
//
// A token is a byte of the text. The next token after `id` has the probability 1/2 if it is id + 1
// and else 1 / 2^(2 + its distance mod 3): any value would do, it only must depend on both tokens.
// Expert of token i of a window in layer l: (token + l + j) mod 8 for choice j, weight token + j.
// Work: a prompt token costs 10 bytes, a decoded one 100; the roof takes 1 ms for each call.
#ifndef BALEEN_EVALUATION_FAKE_ENGINE_H_
#define BALEEN_EVALUATION_FAKE_ENGINE_H_

#include <cmath>
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

// The whole answer is given within Submit: token i of it is i.
class FakeGeneration : public Generation {
 public:
  void Cancel() override { cancelled = true; }
  const Completion& Wait() override { return completion; }
  bool cancelled = false;
  Completion completion;
};

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
  if (on_end) on_end(generation->completion, nullptr);
  return generation;
}

}  // namespace baleen

#endif  // BALEEN_EVALUATION_FAKE_ENGINE_H_
