// cli/flags.h: flags that several verbs share, and values as people type them.
#ifndef BALEEN_CLI_FLAGS_H_
#define BALEEN_CLI_FLAGS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "baleen/options.h"
#include "cli/command_line.h"

namespace baleen {

// How MODEL is opened: MODEL --threads --isa --precision --cache-dtype --memory-limit.
class EngineFlags {
 public:
  // The object must live until the command line is parsed.
  // `or_else`: what happens without MODEL, for the help; empty: it must be given.
  void AddTo(Verb verb, const std::string& or_else = "");

  const std::string& model() const { return model_; }
  void set_model(const std::string& model) { model_ = model; }
  // Errors: kInvalidArgument, a value that means nothing; kUnimplemented, one that is not computed.
  EngineOptions ToOptions() const;

 private:
  std::string model_;
  size_t num_threads_ = 0;
  std::string isa_;
  std::string precision_ = "auto";
  std::string cache_dtype_;
  std::string memory_limit_;
};

// "4096", "24G", "1.5GiB", "512MB": K, M, G and T are powers of 1024. Error{kInvalidArgument}.
uint64_t ParseByteCount(std::string_view flag, std::string_view text);

// "1,2,3", blanks allowed around numbers; at least one. Error{kInvalidArgument}.
std::vector<int32_t> ParseTokenIds(std::string_view flag, std::string_view text);

}  // namespace baleen

#endif  // BALEEN_CLI_FLAGS_H_
