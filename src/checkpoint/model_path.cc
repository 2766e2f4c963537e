#include "checkpoint/model_path.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;

// A commit id or tag in refs/; a few bytes.
constexpr size_t kMaxRefBytes = 1024;

struct PublishedSize {
  std::string_view id;
  int gigabytes;  // of the safetensors files
};

// Parameters times bytes each, for the message that says what a download would cost.
constexpr std::array<PublishedSize, 16> kPublished = {{
    {"deepseek-ai/DeepSeek-V2-Lite", 31},
    {"deepseek-ai/DeepSeek-V2-Lite-Chat", 31},
    {"deepseek-ai/DeepSeek-Coder-V2-Lite-Base", 31},
    {"deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", 31},
    {"deepseek-ai/DeepSeek-V2", 472},
    {"deepseek-ai/DeepSeek-V2-Chat", 472},
    {"deepseek-ai/DeepSeek-V2.5", 472},
    {"deepseek-ai/DeepSeek-Coder-V2-Base", 472},
    {"deepseek-ai/DeepSeek-Coder-V2-Instruct", 472},
    {"deepseek-ai/DeepSeek-V3", 689},
    {"deepseek-ai/DeepSeek-V3-0324", 689},
    {"deepseek-ai/DeepSeek-R1", 689},
    {"deepseek-ai/DeepSeek-V3.1", 689},
    {"moonshotai/Moonlight-16B-A3B", 32},
    {"moonshotai/Moonlight-16B-A3B-Instruct", 32},
    {"moonshotai/Kimi-K2-Instruct", 1030},
}};

// "organisation/name", each of letters, digits and "-_.".
bool LooksLikeHubId(std::string_view model) {
  const size_t slash = model.find('/');
  if (slash == 0 || slash == std::string_view::npos || slash + 1 == model.size()) return false;
  if (model.front() == '.' || model.size() > 200) return false;
  return std::ranges::all_of(model, [&](const char& c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || &c == model.data() + slash;
  });
}

fs::path HubCache() {
  if (const char* cache = std::getenv("HF_HUB_CACHE")) return cache;
  if (const char* home = std::getenv("HF_HOME")) return fs::path(home) / "hub";
  if (const char* home = std::getenv("HOME")) return fs::path(home) / ".cache/huggingface/hub";
  return "";
}

std::string SizeOf(std::string_view id) {
  for (const PublishedSize& published : kPublished) {
    if (published.id == id) return fmt::format("about {} GB", published.gigabytes);
  }
  return "its size is on its page";
}

ModelPath ResolveHubId(const std::string& id) {
  const fs::path cache = HubCache();
  std::string folder = "models--" + id;
  folder.replace(folder.find('/'), 1, "--");
  std::error_code ignored;
  const fs::path ref = cache / folder / "refs" / "main";
  if (fs::is_regular_file(ref, ignored)) {
    std::string revision = ReadFile(ref.string(), kMaxRefBytes);
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) {
      revision.pop_back();
    }
    const fs::path snapshot = cache / folder / "snapshots" / revision;
    if (revision.find('/') == std::string::npos && fs::is_directory(snapshot, ignored)) {
      return {snapshot.string(), snapshot.string(), id};
    }
  }
  Throw(ErrorCode::kNotFound,
        "{}: no such file or directory, and no such model in the local hub cache ({}); to download "
        "it ({}): hf download {}",
        id, cache.string(), SizeOf(id), id);
}

}  // namespace

ModelPath ResolveModel(const std::string& model) {
  if (model.empty()) Throw(ErrorCode::kInvalidArgument, "the path of the model is empty");
  const fs::path path(model);
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) {
    const fs::path clean = fs::absolute(path).lexically_normal();
    const fs::path named = clean.has_filename() ? clean : clean.parent_path();
    if (!fs::exists(path / "config.json", error)) {
      Throw(ErrorCode::kNotFound, "{}: not a model: there is no config.json in this directory",
            model);
    }
    return {model, model, named.filename().string()};
  }
  if (fs::is_regular_file(status)) {
    const std::string extension = path.extension().string();
    if (extension == ".gguf") return {model, model, path.filename().string(), true};
    if (extension != ".safetensors") {
      Throw(ErrorCode::kUnimplemented,
            "{}: not a model; give a directory with config.json, a .safetensors file in one, or a "
            ".gguf file",
            model);
    }
    const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (!fs::exists(parent / "config.json", error)) {
      Throw(ErrorCode::kNotFound, "{}: there is no config.json beside it", model);
    }
    return {parent.string(), model, path.filename().string()};
  }
  if (LooksLikeHubId(model)) return ResolveHubId(model);
  Throw(ErrorCode::kNotFound, "{}: no such file or directory", model);
}

}  // namespace baleen
