// runtime/sampler.h: chooses the next token of one sequence.
//
// Order: bias and penalties, temperature, top_k, top_p, min_p, draw. Ties go to the lower id
// everywhere, so that the same logits and seed give the same tokens on every machine. Threads: one
// at a time.
#ifndef BALEEN_RUNTIME_SAMPLER_H_
#define BALEEN_RUNTIME_SAMPLER_H_

#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "baleen/request.h"
#include "base/random.h"

namespace baleen {

// Error{kInvalidArgument} naming the parameter that is out of range.
void CheckSamplingParams(const SamplingParams& params);

class Sampler {
 public:
  // `seed` is used when the parameters state none. Ids of logit_bias must be in the vocabulary.
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt, uint64_t seed);

  // Chooses from the model's logits [vocab_size], which are changed. Requires that they are finite.
  int32_t Sample(std::span<float> logits);

  // Tells the sampler that a token joined the answer.
  void Accept(int32_t token_id);

 private:
  struct Candidate {
    int32_t token_id;
    float logit;
    float weight;  // e^((logit - best) / temperature)
  };

  void Penalize(std::span<float> logits) const;
  void SortHead(size_t begin, size_t end);
  int32_t Draw();

  SamplingParams params_;
  Random random_;
  std::unordered_set<int32_t> seen_;                // in prompt and answer
  std::unordered_map<int32_t, int32_t> generated_;  // in the answer, counted
  std::vector<Candidate> candidates_;               // reused by Sample
};

// The k most likely tokens, most likely first (ties to the lower id), and the log-probability of
// `token_id`, by the model's own logits.
GeneratedToken WithLogprobs(std::span<const float> logits, int32_t token_id, size_t k);
// Adds the log-probabilities of `ids` to the alternatives.
void AddLogprobs(std::span<const float> logits, std::span<const int32_t> ids,
                 GeneratedToken& token);

// log(sum(exp(logits))), in double.
double LogSumExp(std::span<const float> logits);

}  // namespace baleen

#endif  // BALEEN_RUNTIME_SAMPLER_H_
