// server/answer.h: runs the generations of one request and sends what they say.
//
// Token path: answer_plan -> [answer] -> Engine::Submit -> chunks -> [answer] -> http.
// Chunks become deltas, and these go either to the client at once, as server-sent events, or into
// records that are sent whole at the end: the same deltas in both cases, so a streamed answer and a
// whole one say the same.
// When the client leaves, its generations are cancelled.
// Threads: Start on any; what follows on the thread of Exchange::Post.
#ifndef BALEEN_SERVER_ANSWER_H_
#define BALEEN_SERVER_ANSWER_H_

#include <functional>
#include <memory>
#include <string>

#include "baleen/engine.h"
#include "server/answer_plan.h"
#include "server/http.h"
#include "server/openai_json.h"

namespace baleen {

// What one request took, for those who count and charge.
struct AnswerReport {
  std::string id;
  Usage usage;
  const char* finish_reason = "stop";  // of the choice that ended last; "abort": nobody waited
  size_t num_choices = 0;
  size_t max_tokens = 0;  // that were asked for; 0: no limit
  double queue_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double prompt_machine_seconds = 0;
  double answer_machine_seconds = 0;
  double first_token_seconds = 0;  // since the request; 0: there was none
  double total_seconds = 0;
  std::vector<float> token_gaps;  // seconds between tokens of a choice
};

struct AnswerHooks {
  // Called once, when all choices have ended. The client hears of the end after `then` was called,
  // on any thread; with false, that the request failed.
  std::function<void(const AnswerReport&, std::function<void(bool ok)> then)> on_end;
};

// Submits the plan's generations and answers by them. Throws what Engine::Submit throws; then
// nothing was sent. `model`: the name that the client used.
void StartAnswer(Engine& engine, AnswerPlan plan, std::string id, std::string model,
                 std::shared_ptr<Exchange> exchange, AnswerHooks hooks);

}  // namespace baleen

#endif  // BALEEN_SERVER_ANSWER_H_
