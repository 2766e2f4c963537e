#include "server/ledger.h"

#include "baleen/error.h"

namespace baleen {

namespace {

Database OpenLedger(const std::string& path) {
  Database database(path);
  database.Execute(
      "CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, time REAL NOT NULL,"
      " api_key TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL,"
      " finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,"
      " cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,"
      " reasoning_tokens INTEGER NOT NULL, queue_seconds REAL NOT NULL,"
      " prefill_seconds REAL NOT NULL, decode_seconds REAL NOT NULL)");
  database.Execute("CREATE INDEX IF NOT EXISTS requests_by_time ON requests (time)");
  return database;
}

}  // namespace

Ledger::Ledger(const std::string& path)
    : database_(OpenLedger(path)), thread_([this] { Loop(); }) {}

Ledger::~Ledger() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Ledger::Record(LedgerRow row, std::function<void(bool ok)> then) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(row), std::move(then)});
  }
  changed_.notify_all();
}

void Ledger::Loop() {
  for (;;) {
    std::vector<Entry> entries;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
      entries.swap(waiting_);
    }
    if (entries.empty()) return;
    const bool ok = Write(entries);
    for (const Entry& entry : entries) entry.then(ok);
  }
}

bool Ledger::Write(const std::vector<Entry>& entries) {
  try {
    database_.Execute("BEGIN IMMEDIATE");
    Statement insert =
        database_.Prepare("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (const auto& [row, then] : entries) {
      insert.Bind(row.id).Bind(row.time).Bind(row.key).Bind(row.model).Bind(row.endpoint);
      insert.Bind(row.finish_reason).Bind(row.prompt_tokens).Bind(row.cached_tokens);
      insert.Bind(row.completion_tokens).Bind(row.reasoning_tokens).Bind(row.queue_seconds);
      insert.Bind(row.prefill_seconds).Bind(row.decode_seconds).Run();
    }
    database_.Execute("COMMIT");
    return true;
  } catch (const Error&) {
    // A full disk, for instance. Who asked is told.
    try {
      database_.Execute("ROLLBACK");
    } catch (const Error&) {
      // There was no transaction to take back.
    }
    return false;
  }
}

std::vector<UsageTotal> Ledger::Totals(const std::string& path, double since,
                                       const std::string* key) {
  Database database = OpenLedger(path);
  Statement rows = database.Prepare(
      "SELECT api_key, model, count(*), sum(prompt_tokens), sum(cached_tokens),"
      " sum(completion_tokens), sum(reasoning_tokens), sum(prefill_seconds + decode_seconds)"
      " FROM requests WHERE time >= ? AND (? IS NULL OR api_key = ?)"
      " GROUP BY api_key, model ORDER BY api_key, model");
  rows.Bind(since);
  for (int i = 0; i < 2; ++i) key != nullptr ? rows.Bind(*key) : rows.BindNull();
  std::vector<UsageTotal> totals;
  while (rows.Step()) {
    totals.push_back({.key = rows.Text(0),
                      .model = rows.Text(1),
                      .requests = rows.Integer(2),
                      .prompt_tokens = rows.Integer(3),
                      .cached_tokens = rows.Integer(4),
                      .completion_tokens = rows.Integer(5),
                      .reasoning_tokens = rows.Integer(6),
                      .compute_seconds = rows.Real(7)});
  }
  return totals;
}

}  // namespace baleen
