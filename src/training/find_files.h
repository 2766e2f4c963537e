// training/find_files.h: files by name, directory or glob.
#ifndef BALEEN_TRAINING_FIND_FILES_H_
#define BALEEN_TRAINING_FIND_FILES_H_

#include <string>
#include <vector>

namespace baleen {

struct FoundFiles {
  std::vector<std::string> paths;  // of regular files, sorted
  bool is_named = false;           // `path` is itself the one file
};

// Hidden files (a dot in front) are found only by a pattern that has the dot. Links to directories
// are not followed, but for `path` itself. Error{kNotFound} if there is nothing at all.
FoundFiles FindFiles(const std::string& path);

// Does a path match a glob? * and ? and [...] stop at slashes; ** as a whole component stands for
// any number of components, none included.
bool MatchesGlob(const std::string& pattern, const std::string& path);

}  // namespace baleen

#endif  // BALEEN_TRAINING_FIND_FILES_H_
