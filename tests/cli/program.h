// tests/cli/program.h: runs the program as its users do: by its arguments, pipes, or a terminal.
#ifndef BALEEN_TESTS_CLI_PROGRAM_H_
#define BALEEN_TESTS_CLI_PROGRAM_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace baleen::cli_test {

using Arguments = std::vector<std::string>;

// The model that the repository carries.
std::string StoriesModel();

struct Outcome {
  int exit_code = -1;  // -1: a signal ended it
  std::string out;
  std::string err;
};

// Runs to the end; standard input holds `input`. With `on_output`, calls it once, with the id of
// the process, when the first output has come.
Outcome RunProgram(const Arguments& arguments, std::string_view input = "",
                   const std::function<void(pid_t)>& on_output = {});

// A person's terminal with the program in it. Its history lives in `state_directory`.
class Terminal {
 public:
  Terminal(const Arguments& arguments, const std::string& state_directory);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void Type(std::string_view keys);
  // Reads until `text` has come since the last call that found its text; false after a minute, or
  // when the program has ended without it.
  bool WaitFor(std::string_view text);
  // What was shown since then.
  const std::string& pending() const { return pending_; }
  // What the last WaitFor read, up to the end of its text.
  const std::string& seen() const { return seen_; }
  // The exit code; -1: a signal ended it, or it has not ended in a minute.
  int WaitForEnd();

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
  std::string pending_;
  std::string seen_;
};

// A directory that is removed with the object.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The bundled model's files in `directory`, with this chat template.
void MakeChatModel(const std::string& directory, const std::string& chat_template);

// A program of the words of that golden template: recognised as the published one is.
std::string GoldenTemplate(std::string_view name);

}  // namespace baleen::cli_test

#endif  // BALEEN_TESTS_CLI_PROGRAM_H_
