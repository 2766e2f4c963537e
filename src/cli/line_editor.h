// cli/line_editor.h: lines that a person types, with editing and history (libedit).
#ifndef BALEEN_CLI_LINE_EDITOR_H_
#define BALEEN_CLI_LINE_EDITOR_H_

#include <memory>
#include <string>

namespace baleen {

enum class LineStatus {
  kLine,
  kInterrupted,  // Ctrl-C: what was typed is dropped
  kEnd,          // Ctrl-D on an empty line
};

// Needs a terminal as standard input. At most one at a time.
class LineEditor {
 public:
  // History is read from `history_path` and written back after each line, for its owner only.
  // Empty: none is kept.
  explicit LineEditor(std::string history_path);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // A line that ends in a backslash goes on in the next one. The newline is not part of `line`.
  LineStatus Read(const std::string& prompt, std::string& line);

 private:
  struct State;
  LineStatus ReadOne(const std::string& prompt, std::string& line);
  void Remember(const std::string& line);

  std::unique_ptr<State> state_;
};

// $XDG_STATE_HOME/baleen/history, else ~/.local/state/baleen/history; its folder is made. Empty
// when there is no home or it can't be written.
std::string DefaultHistoryPath();

}  // namespace baleen

#endif  // BALEEN_CLI_LINE_EDITOR_H_
