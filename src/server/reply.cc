#include "server/reply.h"

#include <algorithm>
#include <utility>

#include "server/api_error.h"

namespace baleen {

Reply::Reply(Engine& engine, std::string id, std::string model, std::shared_ptr<Exchange> exchange,
             AnswerHooks hooks)
    : engine_(engine),
      model_(std::move(model)),
      exchange_(std::move(exchange)),
      hooks_(std::move(hooks)) {
  report_.id = std::move(id);
}

void Reply::SubmitAll(std::vector<Pass> passes, const HttpResponse* head) {
  const auto self = shared_from_this();
  std::vector<std::shared_ptr<Generation>> generations;
  try {
    for (Pass& pass : passes) generations.push_back(SubmitToEngine(std::move(pass)));
  } catch (...) {
    for (const auto& generation : generations) generation->Cancel();
    exchange_->Post([self] {
      self->state_ = State::kRefused;
      self->waiting_.clear();
    });
    throw;
  }
  if (head != nullptr) exchange_->BeginStream(*head, ": keep-alive\n\n");
  exchange_->Post([self, generations = std::move(generations)]() mutable {
    self->state_ = State::kRunning;
    self->num_running_ = generations.size();
    self->generations_ = std::move(generations);
    for (const auto& task : std::exchange(self->waiting_, {})) task();
  });
  exchange_->OnGone([weak = weak_from_this()] {
    const auto reply = weak.lock();
    if (!reply) return;
    reply->gone_ = true;
    for (const auto& generation : reply->generations_) generation->Cancel();
  });
}

void Reply::Submit(Pass pass) {
  ++num_running_;
  try {
    generations_.push_back(SubmitToEngine(std::move(pass)));
  } catch (...) {
    --num_running_;
    throw;
  }
  if (gone_) generations_.back()->Cancel();
}

void Reply::Cancel(size_t pass) { generations_[pass]->Cancel(); }

double Reply::SecondsSinceBegin() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

// The engine's thread hands over and goes on.
void Reply::Post(std::function<void()> task) {
  const auto self = shared_from_this();
  exchange_->Post([self, task = std::move(task)]() mutable {
    if (self->state_ == State::kSubmitting) {
      self->waiting_.push_back(std::move(task));
    } else if (self->state_ == State::kRunning) {
      task();
    }
  });
}

std::shared_ptr<Generation> Reply::SubmitToEngine(Pass pass) {
  const auto self = shared_from_this();
  Request request = std::move(pass.request);
  const auto shared = std::make_shared<const Pass>(std::move(pass));
  std::function<void(const Chunk&)> on_chunk;
  if (shared->on_chunk) {
    on_chunk = [self, shared](const Chunk& chunk) {
      self->Post([shared, chunk] { shared->on_chunk(chunk); });
    };
  }
  return engine_.Submit(std::move(request), std::move(on_chunk),
                        [self, shared](const Completion& completion, std::exception_ptr error) {
                          Completion end;
                          if (shared->on_chunk) {
                            end.finish_reason = completion.finish_reason;
                            end.cached_tokens = completion.cached_tokens;
                            end.queue_seconds = completion.queue_seconds;
                            end.prefill_seconds = completion.prefill_seconds;
                            end.decode_seconds = completion.decode_seconds;
                            end.prompt_machine_seconds = completion.prompt_machine_seconds;
                            end.answer_machine_seconds = completion.answer_machine_seconds;
                          } else {
                            end = completion;
                          }
                          self->Post([self, shared, end = std::move(end), error] {
                            self->OnPassEnd(*shared, end, error);
                          });
                        });
}

void Reply::OnPassEnd(const Pass& pass, const Completion& completion,
                      const std::exception_ptr& error) {
  if (error) error_ = error;
  report_.queue_seconds = std::max(report_.queue_seconds, completion.queue_seconds);
  report_.prefill_seconds += completion.prefill_seconds;
  report_.decode_seconds += completion.decode_seconds;
  report_.prompt_machine_seconds += completion.prompt_machine_seconds;
  report_.answer_machine_seconds += completion.answer_machine_seconds;
  try {
    pass.on_end(completion);
  } catch (...) {
    error_ = std::current_exception();
  }
  if (--num_running_ == 0) Finish();
}

void Reply::Finish() {
  report_.total_seconds = SecondsSinceBegin();
  if (error_) report_.finish_reason = "error";
  const auto self = shared_from_this();
  hooks_.on_end(report_, [self](bool ok) {
    self->exchange_->Post([self, ok] {
      try {
        if (self->error_) std::rethrow_exception(self->error_);
        if (!ok) throw NotAccountedFor();
        self->SendEnd();
      } catch (const std::exception& error) {
        self->SendError(ErrorResponse(ToApiError(error)));
      }
    });
  });
}

}  // namespace baleen
