// tests/hostile/hostile.h: the catalogue of hostile files.
//
// A case writes files into an empty directory and opens them as a user would. It must end in an
// Error of the right code whose one-line message names what is wrong and where, within bounds of
// time and memory. Each case runs in a process of its own, so that a crash or an endless loop is a
// failed case and not the end of the run.
//
// To add a format: a file xyz_cases.cc with a function XyzCases, named below and in AllCases.
#ifndef BALEEN_TESTS_HOSTILE_HOSTILE_H_
#define BALEEN_TESTS_HOSTILE_HOSTILE_H_

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "baleen/error.h"

namespace baleen::hostile {

constexpr double kMaxSeconds = 10;  // generous: sanitizers and a busy machine are slow
constexpr size_t kMaxMemoryBytes = size_t{32} << 20;

struct HostileCase {
  std::string name;  // CamelCase
  std::map<std::string, std::string> files;
  std::function<void(const std::string& directory)> open;
  ErrorCode code = ErrorCode::kCorruption;
  std::vector<std::string> fragments;  // each must be in the message
  size_t max_memory_bytes = kMaxMemoryBytes;
};

// For the names of parametrised tests.
std::ostream& operator<<(std::ostream& stream, const HostileCase& hostile);

// What happened when a case was opened.
struct Outcome {
  bool opened = false;   // without an error
  int signal = 0;        // that ended the process; SIGALRM after kMaxSeconds
  std::string surprise;  // an exception that is not an Error
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  size_t memory_bytes = 0;  // peak, beyond what the process had before
};

// Runs the case in a child process, in a fresh directory that is removed afterwards.
Outcome Run(const HostileCase& hostile);

// Empty, or what is wrong with the outcome.
std::string Judge(const HostileCase& hostile, const Outcome& outcome);

std::vector<HostileCase> SafetensorsCases();
std::vector<HostileCase> SafetensorsIndexCases();
std::vector<HostileCase> CheckpointCases();
std::vector<HostileCase> GgufCases();
std::vector<HostileCase> GptqCases();
std::vector<HostileCase> AllCases();

}  // namespace baleen::hostile

#endif  // BALEEN_TESTS_HOSTILE_HOSTILE_H_
