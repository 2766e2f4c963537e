#include "cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

namespace baleen::cli_test {

namespace {

namespace fs = std::filesystem;

// Sanitizers and a busy machine are slow.
constexpr int kPatienceMs = 60'000;

[[noreturn]] void Execute(const Arguments& arguments) {
  std::vector<char*> argv = {const_cast<char*>("baleen")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(BALEEN_PROGRAM, argv.data());
  _exit(127);
}

int ExitCodeOf(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

// False at the end of the file.
bool AppendFrom(int fd, std::string& text) {
  std::array<char, 65536> buffer;
  const ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count <= 0) return false;
  text.append(buffer.data(), static_cast<size_t>(count));
  return true;
}

}  // namespace

std::string StoriesModel() { return BALEEN_SOURCE_DIR "/models/baleen-stories-mini"; }

Outcome RunProgram(const Arguments& arguments, std::string_view input,
                   const std::function<void(pid_t)>& on_output) {
  std::array<std::array<int, 2>, 3> pipes;  // of standard input, output and error
  for (auto& ends : pipes) {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  }
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(pipes[0][0], STDIN_FILENO);
    dup2(pipes[1][1], STDOUT_FILENO);
    dup2(pipes[2][1], STDERR_FILENO);
    Execute(arguments);
  }
  close(pipes[0][0]);
  close(pipes[1][1]);
  close(pipes[2][1]);
  std::thread writer([&] {
    signal(SIGPIPE, SIG_IGN);
    while (!input.empty()) {
      const ssize_t count = write(pipes[0][1], input.data(), input.size());
      if (count <= 0) break;
      input.remove_prefix(static_cast<size_t>(count));
    }
    close(pipes[0][1]);
  });
  Outcome outcome;
  std::array<pollfd, 2> fds = {{{pipes[1][0], POLLIN, 0}, {pipes[2][0], POLLIN, 0}}};
  bool told = !on_output;
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    if (poll(fds.data(), fds.size(), kPatienceMs) <= 0) {
      kill(pid, SIGKILL);
      break;
    }
    if (fds[0].revents != 0 && !AppendFrom(fds[0].fd, outcome.out)) fds[0].fd = -1;
    if (fds[1].revents != 0 && !AppendFrom(fds[1].fd, outcome.err)) fds[1].fd = -1;
    if (!told && !outcome.out.empty()) {
      told = true;
      on_output(pid);
    }
  }
  writer.join();
  close(pipes[1][0]);
  close(pipes[2][0]);
  outcome.exit_code = ExitCodeOf(pid);
  return outcome;
}

Terminal::Terminal(const Arguments& arguments, const std::string& state_directory) {
  pid_ = forkpty(&fd_, nullptr, nullptr, nullptr);
  if (pid_ < 0) throw std::runtime_error("forkpty");
  if (pid_ == 0) {
    setenv("XDG_STATE_HOME", state_directory.c_str(), 1);
    setenv("TERM", "vt100", 1);
    unsetenv("NO_COLOR");
    Execute(arguments);
  }
}

Terminal::~Terminal() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    ExitCodeOf(pid_);
  }
  close(fd_);
}

void Terminal::Type(std::string_view keys) {
  if (write(fd_, keys.data(), keys.size()) != static_cast<ssize_t>(keys.size())) {
    throw std::runtime_error("the terminal takes no keys");
  }
}

bool Terminal::WaitFor(std::string_view text) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (true) {
    const size_t found = pending_.find(text);
    if (found != std::string::npos) {
      seen_ = pending_.substr(0, found + text.size());
      pending_.erase(0, seen_.size());
      return true;
    }
    pollfd fd = {fd_, POLLIN, 0};
    if (std::chrono::steady_clock::now() > deadline || poll(&fd, 1, kPatienceMs) <= 0) return false;
    if (!AppendFrom(fd_, pending_)) return false;
  }
}

int Terminal::WaitForEnd() {
  pollfd fd = {fd_, POLLIN, 0};
  while (poll(&fd, 1, kPatienceMs) > 0) {
    if (AppendFrom(fd_, pending_)) continue;
    const pid_t pid = pid_;
    pid_ = -1;
    return ExitCodeOf(pid);
  }
  return -1;
}

ScratchDirectory::ScratchDirectory() {
  std::string pattern = (fs::temp_directory_path() / "baleen-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void MakeChatModel(const std::string& directory, const std::string& chat_template) {
  for (const fs::directory_entry& entry : fs::directory_iterator(StoriesModel())) {
    fs::create_symlink(entry.path(), fs::path(directory) / entry.path().filename());
  }
  std::ofstream(directory + "/chat_template.jinja") << chat_template;
}

std::string GoldenTemplate(std::string_view name) {
  std::ifstream stream(BALEEN_SOURCE_DIR "/tests/golden/chat_templates.json");
  const nlohmann::json golden = nlohmann::json::parse(stream);
  for (const nlohmann::json& item : golden["templates"]) {
    if (item["name"] != name) continue;
    std::string program;
    for (const nlohmann::json& text : item["texts"]) {
      std::string escaped;
      for (const char c : text.get<std::string>()) escaped += c == '\n' ? "\\n" : std::string(1, c);
      program += "{{ '" + escaped + "' }}";
    }
    program += "{% ";
    for (const nlohmann::json& word : item["names"]) program += word.get<std::string>() + " ";
    return program + "%}";
  }
  throw std::runtime_error("no such golden template");
}

}  // namespace baleen::cli_test
