#include "hostile/hostile.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>

#include "base/check.h"

namespace baleen::hostile {

namespace {

namespace fs = std::filesystem;

size_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// In the child: opens the case and sends the outcome as lines (the message may be anything, so it
// comes last).
[[noreturn]] void RunChild(const HostileCase& hostile, const fs::path& directory, int pipe) {
  alarm(static_cast<unsigned>(kMaxSeconds));
  const size_t before = ResidentBytes();
  std::string report;
  try {
    hostile.open(directory.string());
    report = fmt::format("opened {} 0\n", before);
  } catch (const Error& error) {
    report = fmt::format("error {} {}\n{}", before, static_cast<int>(error.code()), error.what());
  } catch (const std::exception& error) {
    report = fmt::format("surprise {} 0\n{}", before, error.what());
  }
  const ssize_t written = write(pipe, report.data(), report.size());
  _exit(written == static_cast<ssize_t>(report.size()) ? 0 : 1);
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const HostileCase& hostile) {
  return stream << hostile.name;
}

Outcome Run(const HostileCase& hostile) {
  std::string pattern = (fs::temp_directory_path() / "baleen_hostile_XXXXXX").string();
  BALEEN_CHECK(mkdtemp(pattern.data()) != nullptr);
  const fs::path directory = pattern;
  for (const auto& [name, content] : hostile.files) {
    std::ofstream(directory / name, std::ios::binary) << content;
  }

  int pipes[2];
  BALEEN_CHECK(pipe(pipes) == 0);
  const pid_t child = fork();
  BALEEN_CHECK(child >= 0);
  if (child == 0) RunChild(hostile, directory, pipes[1]);
  close(pipes[1]);
  const std::string report = ReadAll(pipes[0]);
  close(pipes[0]);
  int status = 0;
  rusage usage{};
  BALEEN_CHECK(wait4(child, &status, 0, &usage) == child);
  std::error_code ignored;
  fs::remove_all(directory, ignored);

  Outcome outcome;
  if (WIFSIGNALED(status)) {
    outcome.signal = WTERMSIG(status);
    return outcome;
  }
  const size_t line_end = report.find('\n');
  if (WEXITSTATUS(status) != 0 || line_end == std::string::npos) {
    outcome.surprise = fmt::format("the process ended with status {}", WEXITSTATUS(status));
    return outcome;
  }
  char kind[16] = {};
  size_t before = 0;
  int code = 0;
  BALEEN_CHECK(sscanf(report.c_str(), "%15s %zu %d", kind, &before, &code) == 3);
  outcome.message = report.substr(line_end + 1);
  outcome.opened = std::strcmp(kind, "opened") == 0;
  if (std::strcmp(kind, "surprise") == 0) outcome.surprise = outcome.message;
  outcome.code = static_cast<ErrorCode>(code);
  const size_t peak = static_cast<size_t>(usage.ru_maxrss) * 1024;
  outcome.memory_bytes = peak > before ? peak - before : 0;
  return outcome;
}

std::string Judge(const HostileCase& hostile, const Outcome& outcome) {
  if (outcome.signal == SIGALRM) return fmt::format("took more than {} s", kMaxSeconds);
  if (outcome.signal != 0) return fmt::format("crashed: {}", strsignal(outcome.signal));
  if (!outcome.surprise.empty()) return "not a baleen::Error: " + outcome.surprise;
  if (outcome.opened) return "was accepted";
  if (outcome.code != hostile.code) {
    return fmt::format("is \"{}\", expected \"{}\": {}", ErrorCodeName(outcome.code),
                       ErrorCodeName(hostile.code), outcome.message);
  }
  for (const std::string& fragment : hostile.fragments) {
    if (outcome.message.find(fragment) == std::string::npos) {
      return fmt::format("the message lacks \"{}\": {}", fragment, outcome.message);
    }
  }
  for (const char c : outcome.message) {
    if (static_cast<unsigned char>(c) < 0x20) return "the message has control characters";
  }
  if (outcome.message.size() > 1000) {
    return fmt::format("the message has {} bytes", outcome.message.size());
  }
  if (outcome.memory_bytes > hostile.max_memory_bytes) {
    return fmt::format("took {} bytes of memory, allowed are {}", outcome.memory_bytes,
                       hostile.max_memory_bytes);
  }
  return "";
}

std::vector<HostileCase> AllCases() {
  std::vector<HostileCase> all;
  for (const auto& cases :
       {SafetensorsCases(), SafetensorsIndexCases(), CheckpointCases(), GgufCases(), GptqCases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

}  // namespace baleen::hostile
