// server/score.h: /score: how likely each of some labels is after a text: a classifier that writes
// nothing.
//
// s(label) is the sum over its tokens of ln p(token | text, label's tokens before it), by the
// model's own logits. The text is computed once for all labels: each label of several tokens goes
// on from the text's rows in the prefix cache (to a block's border; at most 63 tokens are computed
// again), and first tokens are all read from one row. So a label's score does not depend on the
// labels beside it. /generative_scoring is vLLM's name for the case of one-token labels.
#ifndef BALEEN_SERVER_SCORE_H_
#define BALEEN_SERVER_SCORE_H_

#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/http.h"

namespace baleen {

enum class LengthNormalize { kNone, kTokens, kBytes };

struct ScorePlan {
  struct Label {
    std::vector<int32_t> token_ids;  // at least one
    size_t num_bytes = 0;
  };
  std::vector<std::vector<int32_t>> prompts;  // one an item
  std::vector<Label> labels;
  LengthNormalize normalize = LengthNormalize::kNone;
  bool apply_softmax = true;
  Request request;  // of each pass, but for prompt and logprobs
};

// Errors: ApiError 400.
ScorePlan PlanScore(const Engine& engine, const Fields& fields);

// As StartAnswer.
void StartScore(Engine& engine, ScorePlan plan, std::string id, std::string model,
                std::shared_ptr<Exchange> exchange, AnswerHooks hooks);

// The labels' scores from the sums of their log-probabilities.
std::vector<double> LabelScores(const ScorePlan& plan, const std::vector<double>& logprobs);

}  // namespace baleen

#endif  // BALEEN_SERVER_SCORE_H_
