// tests/model/model_runner.h: runs a checkpoint's forward pass on chosen rows, without an engine.
#ifndef BALEEN_TESTS_MODEL_MODEL_RUNNER_H_
#define BALEEN_TESTS_MODEL_MODEL_RUNNER_H_

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"
#include "model/forward.h"

namespace baleen {

struct RunOptions {
  const kernels::KernelTable* table = nullptr;
  MlaForm form = MlaForm::kDirect;
  size_t num_threads = 1;
  size_t chunk = 512;  // rows of a sequence in one pass
  bool bf16_products = false;
  bool i8_products = false;
  DType cache_dtype = DType::kF32;
  // A second sequence that runs in the same batches, in the other form; empty: none.
  std::vector<int32_t> company = {};
};

// What a pass over one sequence gave, all positions.
struct RunResult {
  std::vector<float> logits;               // [tokens, vocab]
  std::vector<std::vector<float>> hidden;  // per stage [tokens, hidden]
  struct Routing {
    size_t layer;
    std::vector<int32_t> experts;  // [tokens, k], ascending in each row
    std::vector<float> weights;    // in the order of experts
  };
  std::vector<Routing> routing;
};

class ModelRunner {
 public:
  // With `repack`, weights that can be tiles become tiles, in memory.
  explicit ModelRunner(const std::string& directory, bool repack = false);

  const ModelConfig& config() const { return model_->config(); }

  RunResult Run(const std::vector<int32_t>& ids, const RunOptions& options) const;
  // Greedy continuation, one token at a time in the absorbed form after the prompt.
  std::vector<int32_t> Greedy(const std::vector<int32_t>& prompt, size_t count,
                              const RunOptions& options) const;

 private:
  std::unique_ptr<Model> model_;
};

}  // namespace baleen

#endif  // BALEEN_TESTS_MODEL_MODEL_RUNNER_H_
