// server/metrics.h: counts for Prometheus, under vLLM's names where it has one, so that its
// dashboards show them.
//
// Threads: any.
#ifndef BALEEN_SERVER_METRICS_H_
#define BALEEN_SERVER_METRICS_H_

#include <memory>
#include <string>

#include "baleen/engine.h"
#include "server/answer.h"

namespace baleen {

class Metrics {
 public:
  // `model_name` labels every figure.
  explicit Metrics(const std::string& model_name, size_t max_context_tokens);
  ~Metrics();

  void OnAnswer(const AnswerReport& report);

  // The text that Prometheus reads.
  std::string Text(const EngineStats& stats);

 private:
  struct Figures;
  std::unique_ptr<Figures> figures_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_METRICS_H_
