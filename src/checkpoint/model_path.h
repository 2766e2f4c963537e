// checkpoint/model_path.h: what people call a model, and where its files are.
#ifndef BALEEN_CHECKPOINT_MODEL_PATH_H_
#define BALEEN_CHECKPOINT_MODEL_PATH_H_

#include <string>

namespace baleen {

struct ModelPath {
  std::string directory;  // holds config.json and the tokenizer's files; or the GGUF file
  std::string weights;    // what formats/ opens: the directory, one file in it, or the GGUF file
  std::string name;       // for people: the name of directory or file, or the hub id
  bool is_gguf = false;
};

// MODEL is a directory, a weights file in one, a GGUF file, or a hub id
// ("deepseek-ai/DeepSeek-V2-Lite") that the local Hugging Face cache holds (HF_HUB_CACHE, HF_HOME,
// or the default place; these and XDG_CACHE_HOME, for tile_cache.h, are the only environment
// variables that the library reads). Nothing is ever downloaded. Errors: kNotFound, with the
// command that would download it; kUnimplemented, a file of a kind that is not read here.
ModelPath ResolveModel(const std::string& model);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_MODEL_PATH_H_
