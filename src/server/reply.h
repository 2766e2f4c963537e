// server/reply.h: what the answers of all endpoints that compute share. A request's passes through
// the engine are submitted all or none; when the last has ended their report goes to those who
// count and charge; and only then does the client hear of the end. When it leaves, its passes are
// cancelled.
//
// Threads: Start, and in it SubmitAll, on any thread. All else is called on the thread of
// Exchange::Post, and what passes say waits there until SubmitAll is done, so that nothing needs a
// lock.
#ifndef BALEEN_SERVER_REPLY_H_
#define BALEEN_SERVER_REPLY_H_

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
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

class Reply : public std::enable_shared_from_this<Reply> {
 public:
  virtual ~Reply() = default;

 protected:
  // One request to the engine. With on_chunk the text and tokens come by it, and on_end sees a
  // completion without them; what on_end throws, the client gets.
  struct Pass {
    Request request;
    std::function<void(const Chunk&)> on_chunk;
    std::function<void(const Completion&)> on_end;
  };

  Reply(Engine& engine, std::string id, std::string model, std::shared_ptr<Exchange> exchange,
        AnswerHooks hooks);

  // Submits the passes that a request begins with; throws what Engine::Submit throws, and then
  // nobody hears of those that were submitted. Once, at the end of Start. `head`: of a stream,
  // which begins.
  void SubmitAll(std::vector<Pass> passes, const HttpResponse* head = nullptr);
  // One more, while others run.
  void Submit(Pass pass);
  // Ends a pass early; in the order of submission.
  void Cancel(size_t pass);

  // All that is left to say.
  virtual void SendEnd() = 0;
  virtual void SendError(HttpResponse response) { exchange_->Respond(std::move(response)); }

  double SecondsSinceBegin() const;
  bool is_last() const { return num_running_ == 1; }  // in on_end: no other pass runs
  bool has_failed() const { return error_ != nullptr; }
  bool is_gone() const { return gone_; }  // the client is

  Engine& engine_;
  const std::string model_;  // the name that the client used
  const std::shared_ptr<Exchange> exchange_;
  AnswerReport report_;  // passes add their times to it, the derived class all else

 private:
  enum class State { kSubmitting, kRunning, kRefused };

  std::shared_ptr<Generation> SubmitToEngine(Pass pass);
  void Post(std::function<void()> task);
  void OnPassEnd(const Pass& pass, const Completion& completion, const std::exception_ptr& error);
  void Finish();

  const AnswerHooks hooks_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  State state_ = State::kSubmitting;
  std::vector<std::function<void()>> waiting_;  // until all passes are submitted
  std::vector<std::shared_ptr<Generation>> generations_;
  size_t num_running_ = 0;
  bool gone_ = false;
  std::exception_ptr error_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_REPLY_H_
