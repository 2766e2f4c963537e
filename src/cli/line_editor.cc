#include "cli/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdint>
#include <cstdlib>
#include <cwchar>
#include <filesystem>

#include "base/check.h"
#include "cli/interrupt.h"
#include "cli/output.h"

namespace baleen {

namespace {

constexpr int kMaxHistoryLines = 1000;
constexpr const char* kContinuationPrompt = "... ";

}  // namespace

struct LineEditor::State {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string history_path;
  std::string prompt;
  int wake_fd = -1;  // written when Ctrl-C was pressed
  bool interrupted = false;
  mbstate_t decoding = {};  // of a character whose bytes are coming in

  static State& Of(EditLine* editor) {
    void* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return *static_cast<State*>(state);
  }

  static char* Prompt(EditLine* editor) { return Of(editor).prompt.data(); }

  // Of lines before this one, even a Ctrl-C that came together with the Enter.
  void ForgetInterrupts() {
    uint64_t count = 0;
    while (read(wake_fd, &count, sizeof(count)) > 0) {
    }
  }

  // A byte of standard input; false at its end or when Ctrl-C was pressed.
  bool ReadByte(char& byte) {
    while (true) {
      std::array<pollfd, 2> fds = {{{STDIN_FILENO, POLLIN, 0}, {wake_fd, POLLIN, 0}}};
      if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return false;
      if (fds[1].revents != 0) {
        interrupted = true;
        return false;
      }
      if (fds[0].revents == 0) continue;
      const ssize_t count = read(STDIN_FILENO, &byte, 1);
      if (count == 1) return true;
      if (count == 0 || (errno != EINTR && errno != EAGAIN)) return false;
    }
  }

  // libedit's way to get a character: 1, or 0 for the end.
  static int GetCharacter(EditLine* editor, wchar_t* out) {
    State& state = Of(editor);
    for (char byte; state.ReadByte(byte);) {
      const size_t used = std::mbrtowc(out, &byte, 1, &state.decoding);
      if (used <= 1) return 1;  // 0 is the character NUL, which is typed as Ctrl-@
      if (used == static_cast<size_t>(-1)) {
        state.decoding = {};
        *out = L'\ufffd';
        return 1;
      }
    }
    return 0;
  }
};

LineEditor::LineEditor(std::string history_path) : state_(std::make_unique<State>()) {
  // libedit reads and shows characters by the locale; only its character set is taken from there.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
  State& state = *state_;
  state.history_path = std::move(history_path);
  state.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  state.history = history_init();
  state.editor = el_init("baleen", stdin, StdoutIsTerminal() ? stdout : stderr, stderr);
  BALEEN_CHECK(state.wake_fd >= 0 && state.history != nullptr && state.editor != nullptr);
  el_set(state.editor, EL_CLIENTDATA, &state);
  el_set(state.editor, EL_EDITOR, "emacs");
  el_set(state.editor, EL_SIGNAL, 0);
  el_set(state.editor, EL_PROMPT, &State::Prompt);
  el_set(state.editor, EL_GETCFN, &State::GetCharacter);
  el_set(state.editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  HistEvent event;
  history(state.history, &event, H_SETSIZE, kMaxHistoryLines);
  history(state.history, &event, H_SETUNIQUE, 1);
  el_set(state.editor, EL_HIST, history, state.history);
  if (!state.history_path.empty()) {
    history(state.history, &event, H_LOAD, state.history_path.c_str());
  }
}

LineEditor::~LineEditor() {
  el_end(state_->editor);
  history_end(state_->history);
  close(state_->wake_fd);
}

LineStatus LineEditor::Read(const std::string& prompt, std::string& line) {
  line.clear();
  std::string part;
  LineStatus status = ReadOne(prompt, part);
  while (status == LineStatus::kLine && !part.empty() && part.back() == '\\') {
    part.back() = '\n';
    line += part;
    status = ReadOne(kContinuationPrompt, part);
  }
  if (status != LineStatus::kLine) return status;
  line += part;
  if (line.find_first_not_of(" \t\n") != std::string::npos) Remember(line);
  return LineStatus::kLine;
}

LineStatus LineEditor::ReadOne(const std::string& prompt, std::string& line) {
  State& state = *state_;
  state.prompt = prompt;
  state.interrupted = false;
  state.ForgetInterrupts();
  const InterruptScope scope([&] {
    const uint64_t one = 1;
    BALEEN_CHECK(write(state.wake_fd, &one, sizeof(one)) == sizeof(one));
  });
  // Else libedit shows the prompt first, and a Ctrl-D that comes before it is ready is lost.
  el_set(state.editor, EL_PREP_TERM, 1);
  int count = 0;
  const char* text = el_gets(state.editor, &count);
  if (state.interrupted) return LineStatus::kInterrupted;
  if (text == nullptr || count <= 0) return LineStatus::kEnd;
  line.assign(text, static_cast<size_t>(count));
  if (!line.empty() && line.back() == '\n') line.pop_back();
  return LineStatus::kLine;
}

void LineEditor::Remember(const std::string& line) {
  State& state = *state_;
  HistEvent event;
  history(state.history, &event, H_ENTER, line.c_str());
  if (state.history_path.empty()) return;
  // The file is made with its mode before anything is in it.
  const int fd = open(state.history_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  fchmod(fd, 0600);
  close(fd);
  history(state.history, &event, H_SAVE, state.history_path.c_str());
}

std::string DefaultHistoryPath() {
  namespace fs = std::filesystem;
  const char* state_home = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  fs::path folder;
  if (state_home != nullptr && state_home[0] == '/') {
    folder = state_home;
  } else if (home != nullptr && home[0] == '/') {
    folder = fs::path(home) / ".local/state";
  } else {
    return "";
  }
  folder /= "baleen";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return "";
  return (folder / "history").string();
}

}  // namespace baleen
