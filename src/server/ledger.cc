#include "server/ledger.h"

#include "baleen/error.h"

namespace baleen {

namespace {

Database OpenLedger(const std::string& where) {
  Database database(where);
  database.Execute(
      "CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL,"
      " api_key TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL,"
      " finish_reason TEXT NOT NULL, prompt_tokens BIGINT NOT NULL,"
      " cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,"
      " reasoning_tokens BIGINT NOT NULL, queue_seconds DOUBLE PRECISION NOT NULL,"
      " prefill_seconds DOUBLE PRECISION NOT NULL, decode_seconds DOUBLE PRECISION NOT NULL)");
  // Since 0.2.
  for (const char* column : {"prompt_machine_seconds", "answer_machine_seconds"}) {
    database.AddColumn("requests", column, "DOUBLE PRECISION NOT NULL DEFAULT 0");
  }
  database.Execute("CREATE INDEX IF NOT EXISTS requests_by_time ON requests (time)");
  return database;
}

}  // namespace

Ledger::Ledger(const std::string& where)
    : database_(OpenLedger(where)), thread_([this] { Loop(); }) {}

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

// Once more if it fails: a connection may have been lost, and be there again. A row that was
// written after all is not written twice.
bool Ledger::Write(const std::vector<Entry>& entries) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      WriteOnce(entries);
      return true;
    } catch (const Error&) {
      // A full disk, for instance. Who asked is told.
      try {
        database_.Execute("ROLLBACK");
      } catch (const Error&) {
        // There was no transaction to take back.
      }
    }
  }
  return false;
}

void Ledger::WriteOnce(const std::vector<Entry>& entries) {
  database_.Begin();
  Statement insert = database_.Prepare(
      "INSERT INTO requests (id, time, api_key, model, endpoint, finish_reason, prompt_tokens,"
      " cached_tokens, completion_tokens, reasoning_tokens, queue_seconds, prefill_seconds,"
      " decode_seconds, prompt_machine_seconds, answer_machine_seconds)"
      " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING");
  for (const auto& [row, then] : entries) {
    insert.Bind(row.id).Bind(row.time).Bind(row.key).Bind(row.model).Bind(row.endpoint);
    insert.Bind(row.finish_reason).Bind(row.prompt_tokens).Bind(row.cached_tokens);
    insert.Bind(row.completion_tokens).Bind(row.reasoning_tokens).Bind(row.queue_seconds);
    insert.Bind(row.prefill_seconds).Bind(row.decode_seconds);
    insert.Bind(row.prompt_machine_seconds).Bind(row.answer_machine_seconds).Run();
  }
  database_.Execute("COMMIT");
}

std::vector<UsageTotal> Ledger::Totals(const std::string& where, double since,
                                       const std::string* key) {
  Database database = OpenLedger(where);
  Statement rows = database.Prepare(
      "SELECT api_key, model, count(*), sum(prompt_tokens), sum(cached_tokens),"
      " sum(completion_tokens), sum(reasoning_tokens), sum(prefill_seconds + decode_seconds),"
      " sum(prompt_machine_seconds), sum(answer_machine_seconds), min(time)"
      " FROM requests WHERE time >= ? AND (CAST(? AS TEXT) IS NULL OR api_key = ?)"
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
                      .compute_seconds = rows.Real(7),
                      .prompt_machine_seconds = rows.Real(8),
                      .answer_machine_seconds = rows.Real(9),
                      .first_time = rows.Real(10)});
  }
  return totals;
}

}  // namespace baleen
