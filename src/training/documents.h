// training/documents.h: the texts in files, directories and globs, one document at a time.
//
// A plain text file is one document, or several with a separator between them. A file whose name
// ends in .jsonl or .ndjson has a document a line: a JSON object with the text in one field.
// What is named must be good: an empty or binary file is an error. What a directory or a glob finds
// may be anything, and what is no text is passed over and counted.
//
// Nothing of a file stays in memory after it was scanned; a document is found again by its place.
#ifndef BALEEN_TRAINING_DOCUMENTS_H_
#define BALEEN_TRAINING_DOCUMENTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"

namespace baleen {

struct DocumentOptions {
  // Files, directories (everything beneath, but for hidden names), and globs, in which * and ? stop
  // at a slash and ** does not.
  std::vector<std::string> paths;
  std::string text_field = "text";  // of JSON lines
  std::string separator;            // between documents of plain text; empty: there is none
};

struct SourceFile {
  std::string path;
  bool is_jsonl = false;
  bool is_named = false;  // by itself, not found by a directory or a glob
  uint32_t path_idx = 0;  // which of DocumentOptions::paths found it
};

struct DocumentPlace {
  uint64_t offset = 0;  // in the file: of the text, or of the line that holds it
  uint32_t size = 0;
  uint32_t file = 0;
};

// Immutable; threads may share it.
class Documents {
 public:
  // Plain text is cut into documents of at most this size, at the end of a line if there is one.
  static constexpr size_t kMaxTextBytes = size_t{1} << 20;

  struct ScanResult {
    uint64_t bytes = 0;      // of the file
    uint64_t documents = 0;  // that were visited
    uint64_t empty = 0;      // without a character that is not white space; not visited
    bool is_text = true;     // false: a file that was found and passed over
  };

  // Finds the files; the same one is taken once. Errors: kNotFound, a path, or a glob that matches
  // nothing; kInvalidArgument, no path.
  explicit Documents(DocumentOptions options);

  // In the order of the paths, and by name within a directory or a glob.
  const std::vector<SourceFile>& files() const { return files_; }

  // Calls `visit` for each document of a file, in order; the text is valid UTF-8 and lives as long
  // as the call. Errors: kNotFound; kCorruption, a named file that is empty or not text, a line
  // that is not JSON or lacks the field.
  ScanResult Scan(uint32_t file,
                  FunctionRef<void(const DocumentPlace&, std::string_view)> visit) const;

  // The text of a document again. Error{kCorruption} if the file is not as it was.
  std::string Read(const DocumentPlace& place) const;

 private:
  void ScanText(uint32_t file, std::string_view content,
                FunctionRef<void(const DocumentPlace&, std::string_view)> visit,
                ScanResult* result) const;
  void ScanLines(uint32_t file, std::string_view content,
                 FunctionRef<void(const DocumentPlace&, std::string_view)> visit,
                 ScanResult* result) const;

  DocumentOptions options_;
  std::vector<SourceFile> files_;
};

}  // namespace baleen

#endif  // BALEEN_TRAINING_DOCUMENTS_H_
