// server/answer.h: runs the generations of one request and sends what they say.
//
// Token path: answer_plan -> [answer] -> reply -> Engine::Submit -> chunks -> [answer] -> http.
// Chunks become deltas, and these go either to the client at once, as server-sent events, or into
// records that are sent whole at the end: the same deltas in both cases, so a streamed answer and a
// whole one say the same.
// When the client leaves, its generations are cancelled.
// Threads: Start on any; what follows on the thread of Exchange::Post.
#ifndef BALEEN_SERVER_ANSWER_H_
#define BALEEN_SERVER_ANSWER_H_

#include <memory>
#include <string>

#include "baleen/engine.h"
#include "server/answer_plan.h"
#include "server/http.h"
#include "server/reply.h"

namespace baleen {

// Submits the plan's generations and answers by them. Throws what Engine::Submit throws; then
// nothing was sent. `model`: the name that the client used.
void StartAnswer(Engine& engine, AnswerPlan plan, std::string id, std::string model,
                 std::shared_ptr<Exchange> exchange, AnswerHooks hooks);

}  // namespace baleen

#endif  // BALEEN_SERVER_ANSWER_H_
