// server/ledger.h: what every request took, kept for those who charge for it.
//
// A request is written once, under its id, when it has ended and before its client is told: what a
// client saw end is in the ledger, whatever happens to the machine, and nothing is in it twice.
// Rows that come together are committed together, so that load does not multiply the waits for the
// disk. Threads: any.
#ifndef BALEEN_SERVER_LEDGER_H_
#define BALEEN_SERVER_LEDGER_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/database.h"

namespace baleen {

struct LedgerRow {
  std::string id;
  double time = 0;  // Unix seconds of its end
  std::string key;  // its name; empty: no keys are in use
  std::string model;
  std::string endpoint;
  std::string finish_reason;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  double queue_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double prompt_machine_seconds = 0;  // Completion's
  double answer_machine_seconds = 0;
};

// Sums of a key and a model.
struct UsageTotal {
  std::string key;
  std::string model;
  int64_t requests = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  double compute_seconds = 0;  // prefill and decode, as the requests saw them
  // The machine's own time: what all together took is the time in which it computed.
  double prompt_machine_seconds = 0;
  double answer_machine_seconds = 0;
  double first_time = 0;  // Unix seconds of the first request's end
};

class Ledger {
 public:
  // As Database.
  explicit Ledger(const std::string& where);
  // Writes what was recorded.
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // `then` is called, on the ledger's thread, when the row is safe (true) or could not be written.
  void Record(LedgerRow row, std::function<void(bool ok)> then);

  // Sums of what ended since `since` (Unix seconds), by key and model; of one key if it is given.
  static std::vector<UsageTotal> Totals(const std::string& where, double since,
                                        const std::string* key = nullptr);

 private:
  struct Entry {
    LedgerRow row;
    std::function<void(bool)> then;
  };
  void Loop();
  bool Write(const std::vector<Entry>& entries);
  void WriteOnce(const std::vector<Entry>& entries);

  Database database_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Entry> waiting_;  // guarded by mutex_
  bool stop_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_LEDGER_H_
