// server/keys.h: who may use a server, and how much.
//
// A key is "bk-" and 48 hexadecimal digits, 192 random bits; the database holds its SHA-256 only
// (so much randomness needs no slow hash). Changes are written to an append-only table besides.
// Threads: any.
#ifndef BALEEN_SERVER_KEYS_H_
#define BALEEN_SERVER_KEYS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "baleen/request.h"
#include "server/database.h"

namespace baleen {

struct KeyLimits {
  int64_t requests_per_minute = 0;             // 0: none
  int64_t tokens_per_minute = 0;               // of prompts and answers
  double machine_seconds_per_minute = 0;       // of the engine's time
  Priority priority = Priority::kInteractive;  // the best class that it may ask for
};

struct KeyInfo {
  std::string name;  // stands in the ledger, and is the share of the scheduler
  std::string hint;  // the key's first characters
  int64_t created = 0;
  KeyLimits limits;
};

class KeyStore {
 public:
  // As Database.
  explicit KeyStore(const std::string& where);

  // Makes a key and returns it: the only time that it is seen. Error{kInvalidArgument}: the name is
  // in use or empty.
  std::string Add(const std::string& name, const KeyLimits& limits);
  // Error{kNotFound}: there is no such key.
  void Revoke(const std::string& name);
  // Gives it other limits. Error{kNotFound}: there is no such key.
  void SetLimits(const std::string& name, const KeyLimits& limits);
  // Those that are valid, by name. Changes by other processes are seen within a second.
  std::vector<KeyInfo> List();

  // Whose key that is. Takes the same time for every wrong key.
  std::optional<KeyInfo> Find(std::string_view key);
  bool empty() { return List().empty(); }

 private:
  struct Entry {
    KeyInfo info;
    std::string hash;
  };
  void Refresh();  // mutex_ is held
  void Change(const std::function<void()>& change);
  void Note(const char* action, const std::string& name, const std::string& details);

  std::mutex mutex_;
  Database database_;                                   // guarded by mutex_
  std::vector<Entry> entries_;                          // guarded by mutex_
  int64_t version_ = -1;                                // guarded by mutex_
  std::chrono::steady_clock::time_point checked_ = {};  // guarded by mutex_
};

const char* PriorityName(Priority priority);
// Error{kInvalidArgument} if it is none.
Priority ParsePriority(std::string_view name);

// $BALEEN_DATABASE, else baleen/baleen.db where this user's programs keep their state.
std::string DefaultDatabasePath();

}  // namespace baleen

#endif  // BALEEN_SERVER_KEYS_H_
