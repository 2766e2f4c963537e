// baleen/engine.h: a model, opened and ready to answer.
//
//   auto engine = baleen::Engine::Open("models/baleen-stories-mini");
//   baleen::Request request;
//   request.prompt_token_ids = engine->Encode("Once upon a time");
//   auto generation = engine->Submit(request, [](const baleen::Chunk& chunk) {
//     std::cout << chunk.text << std::flush;
//   });
//   generation->Wait();
//
// Everything here is thread-safe, and several engines may live side by side.
#ifndef BALEEN_ENGINE_H_
#define BALEEN_ENGINE_H_

#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "baleen/chat.h"
#include "baleen/error.h"
#include "baleen/grammar.h"
#include "baleen/measure.h"
#include "baleen/options.h"
#include "baleen/request.h"

namespace baleen {

// What is known of an open model.
struct ModelInfo {
  std::string path;          // where it was found
  std::string name;          // last part of the path
  std::string model_type;    // "deepseek_v3", ...
  std::string quantization;  // "BF16", "F8_E4M3", ...: of most weights
  uint64_t parameters = 0;
  uint64_t active_parameters = 0;  // that work on one token, embeddings included
  uint64_t weight_bytes = 0;
  size_t cache_bytes_per_token = 0;
  size_t vocab_size = 0;
  size_t num_layers = 0;
  size_t num_experts = 0;  // of a layer that routes
  size_t num_experts_per_tok = 0;
  size_t num_expert_slots = 0;      // experts of all layers that memory holds; 0: all are mapped
  size_t max_context_tokens = 0;    // as opened
  SamplingParams default_sampling;  // the model's own advice (generation_config.json)
  int32_t bos_token_id = -1;        // -1: none is put before a text
  std::vector<int32_t> stop_token_ids;
  std::string chat_template;          // its name; empty: none, or unknown
  std::string chat_template_problem;  // why it is unknown; empty: the model has none
  bool can_reason = false;            // answers may hold reasoning apart from the text
  bool has_fim_tokens = false;        // its vocabulary can say where a text has a hole
  bool knows_fim = false;             // and it is known to be trained to fill one
  bool can_choose_thinking = false;   // ... and ChatOptions::thinking says whether
  ToolCallFormat tool_call_format = ToolCallFormat::kNone;
  std::string isa;  // the target that computes
  size_t num_threads = 0;
  std::vector<std::string> notes;  // what a user should know: ignored config keys, ...
};

struct EncodeOptions {
  bool parse_special = true;  // names of control tokens in the text become these tokens
  bool add_bos = true;        // if the model wants one and the text does not begin with it
};

struct ChatOptions {
  bool add_generation_prompt = true;
  std::optional<bool> thinking;  // unset: the template's default
  std::string tools_json;        // OpenAI's `tools` list; empty: none
};

// A text with a hole, to be filled in the middle.
struct FimPrompt {
  std::string prefix;
  std::string suffix;
  std::vector<std::string> snippets;  // of other files, the most telling last
  // Of the whole prompt; 0: no limit. Snippets are dropped from the first on, then a quarter of the
  // room is the suffix's beginning and the rest the prefix's end.
  size_t max_tokens = 0;
};

// A conversation, ready to be submitted.
struct EncodedChat {
  std::string text;  // as the model's own template prints it
  std::vector<int32_t> token_ids;
  bool starts_in_reasoning = false;  // the answer begins inside <think>
  bool may_reason = false;           // the model may open <think> itself
};

// What an engine does now, and what it has done since it was opened.
struct EngineStats {
  size_t running_requests = 0;
  size_t waiting_requests = 0;
  size_t waiting_tokens = 0;     // of their prompts
  size_t cache_tokens = 0;       // that the latent cache holds
  size_t cache_used_tokens = 0;  // ... in blocks of running requests
  uint64_t prompt_tokens = 0;    // of requests that have begun
  uint64_t cached_tokens = 0;    // of these, taken from the prefix cache
  uint64_t generated_tokens = 0;
  uint64_t preemptions = 0;
};

// A request under way. Thread-safe; may outlive the engine (it is cancelled then).
class Generation {
 public:
  virtual ~Generation() = default;
  // Ends the answer within one step. No effect on one that has ended.
  virtual void Cancel() = 0;
  // Blocks until the answer has ended. Throws Error{kFailed} if the computation broke.
  virtual const Completion& Wait() = 0;
};

// Splits an answer into reasoning and content while it streams.
class ReasoningSplitter {
 public:
  struct Delta {
    std::string reasoning;
    std::string content;
  };
  virtual ~ReasoningSplitter() = default;
  virtual Delta Push(std::string_view text) = 0;
  virtual Delta Flush() = 0;
};

class Engine {
 public:
  // Called on the engine's thread as the answer grows; must return soon and must not throw.
  using ChunkCallback = std::function<void(const Chunk&)>;
  // Called there once, after the last chunk. `error`: null unless the computation broke.
  using EndCallback = std::function<void(const Completion&, std::exception_ptr error)>;

  // Opens MODEL: a directory with config.json and safetensors, or a hub id that is in the local
  // Hugging Face cache. Maps the weights; pages load on first use.
  // Errors: kNotFound, kCorruption, kUnimplemented (never replaced by a default),
  //   kResourceExhausted (weights that every token needs and the cache don't fit, nor, with a
  //   memory limit, the experts that a token has in one layer),
  //   kInvalidArgument.
  static std::unique_ptr<Engine> Open(const std::string& model, const EngineOptions& options = {});

  virtual ~Engine() = default;
  virtual const ModelInfo& info() const = 0;

  // Text to ids and back. Error{kNotFound} if the model has no tokenizer.
  virtual std::vector<int32_t> Encode(std::string_view text,
                                      const EncodeOptions& options = {}) const = 0;
  virtual std::string Decode(std::span<const int32_t> ids, bool skip_special = true) const = 0;
  // The bytes of one token, which may be part of a character.
  virtual std::string TokenBytes(int32_t id) const = 0;

  // Control tokens are the model's own; what is in the texts stays text. Error{kUnimplemented} if
  // the vocabulary lacks the tokens.
  virtual std::vector<int32_t> EncodeFim(const FimPrompt& prompt) const = 0;

  // Error{kUnimplemented} if the model has no chat template or an unknown one.
  virtual EncodedChat RenderChat(std::span<const ChatMessage> messages,
                                 const ChatOptions& options = {}) const = 0;
  virtual std::unique_ptr<ReasoningSplitter> MakeReasoningSplitter(
      const EncodedChat& prompt) const = 0;

  // Makes a grammar for this engine's vocabulary; what was compiled lately is remembered.
  // Errors: kInvalidArgument, a schema or pattern that is broken, too large, or satisfied by
  // nothing; kUnimplemented, a constraint under `strict` that cannot be enforced; kNotFound, no
  // tokenizer.
  virtual std::shared_ptr<const Grammar> CompileGrammar(const GrammarSpec& spec) const = 0;

  // Queues a request. Errors: kInvalidArgument, a parameter out of range, an id outside the
  // vocabulary, a prompt longer than the context; kResourceExhausted, too many tokens wait.
  virtual std::shared_ptr<Generation> Submit(Request request, ChunkCallback on_chunk = {},
                                             EndCallback on_end = {}) = 0;

  // Scores a text and waits for the result. Errors as Submit.
  virtual Score ScoreTokens(ScoreRequest request) = 0;

  virtual EngineStats Stats() const = 0;

  // Measures the machine with the engine's threads and target (about a second; nothing else should
  // run), and prices all later work by it.
  virtual Roof MeasureRoof() = 0;
  // In a ChunkCallback: with the step that made the chunk.
  virtual Work TotalWork() const = 0;
};

}  // namespace baleen

#endif  // BALEEN_ENGINE_H_
