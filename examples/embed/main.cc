// Two engines in one program. The first streams a story; the second is cancelled from another
// thread while it answers.
//
//   embed models/baleen-stories-mini
#include <baleen/engine.h>

#include <atomic>
#include <iostream>
#include <thread>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: embed MODEL\n";
    return 2;
  }
  baleen::EngineOptions options;
  options.num_threads = 1;  // each engine has threads of its own
  auto storyteller = baleen::Engine::Open(argv[1], options);
  auto interrupted = baleen::Engine::Open(argv[1], options);

  baleen::Request request;
  request.prompt_token_ids = storyteller->Encode("Once upon a time");
  request.max_tokens = 40;
  auto story = storyteller->Submit(
      request, [](const baleen::Chunk& chunk) { std::cout << chunk.text << std::flush; });

  std::atomic<bool> started = false;
  request.max_tokens.reset();  // until the context is full
  request.ignore_eos = true;
  auto endless = interrupted->Submit(request, [&](const baleen::Chunk&) {
    started = true;
    started.notify_one();
  });
  std::jthread canceller([&] {
    started.wait(false);  // the first piece of the answer
    endless->Cancel();
  });

  story->Wait();
  const baleen::Completion& cut = endless->Wait();
  const bool cancelled = cut.finish_reason == baleen::FinishReason::kCancelled;
  std::cout << "\nThe other answer " << (cancelled ? "was cancelled" : "ended") << " after "
            << cut.tokens.size() << " tokens.\n";
  return cancelled ? 0 : 1;
} catch (const baleen::Error& error) {
  std::cerr << "embed: " << error.what() << "\n";
  return static_cast<int>(error.code());
}
