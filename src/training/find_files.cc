#include "training/find_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/error.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

bool IsGlob(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

std::vector<std::string> SplitPath(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    if (slash > 0) parts.emplace_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return parts;
}

bool MatchesParts(const std::vector<std::string>& pattern, size_t p,
                  const std::vector<std::string>& path, size_t i) {
  if (p == pattern.size()) return i == path.size();
  if (pattern[p] == "**") {
    for (size_t skip = i;; ++skip) {
      if (MatchesParts(pattern, p + 1, path, skip)) return true;
      if (skip == path.size() || path[skip].starts_with('.')) return false;
    }
  }
  return i < path.size() && ::fnmatch(pattern[p].c_str(), path[i].c_str(), FNM_PERIOD) == 0 &&
         MatchesParts(pattern, p + 1, path, i + 1);
}

// Every regular file beneath `directory` for which `takes`, sorted.
template <typename Takes>
std::vector<std::string> Walk(const fs::path& directory, bool skip_hidden, Takes takes) {
  std::vector<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator it(directory, fs::directory_options::skip_permission_denied,
                                      error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const bool is_hidden = it->path().filename().string().starts_with('.');
    std::error_code ignored;
    if (skip_hidden && is_hidden) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file(ignored) && takes(it->path().string())) {
      found.push_back(it->path().string());
    }
  }
  if (error) {
    Throw(ErrorCode::kNotFound, "{}: cannot be read: {}", directory.string(), error.message());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

bool MatchesGlob(const std::string& pattern, const std::string& path) {
  return pattern.starts_with('/') == path.starts_with('/') &&
         MatchesParts(SplitPath(pattern), 0, SplitPath(path), 0);
}

FoundFiles FindFiles(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    return {Walk(path, /*skip_hidden=*/true, [](const std::string&) { return true; }), false};
  }
  if (fs::exists(path, ignored)) return {{path}, true};
  if (!IsGlob(path)) Throw(ErrorCode::kNotFound, "{}: no such file or directory", path);

  // The walk starts at the last directory before the first wildcard.
  std::string root = path.starts_with('/') ? "/" : "";
  for (const std::string& part : SplitPath(path)) {
    if (IsGlob(part)) break;
    root += part + '/';
  }
  if (!fs::is_directory(root.empty() ? "." : root, ignored)) {
    Throw(ErrorCode::kNotFound, "{}: there is no directory {}", path, root);
  }
  // Hidden names are left to the pattern, which says whether it means them.
  FoundFiles found;
  found.paths = Walk(root.empty() ? "." : root, /*skip_hidden=*/false, [&](std::string file) {
    if (root.empty()) file.erase(0, 2);  // "./"
    return MatchesGlob(path, file);
  });
  if (found.paths.empty()) Throw(ErrorCode::kNotFound, "{}: no file matches", path);
  return found;
}

}  // namespace baleen
