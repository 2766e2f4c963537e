#include "server/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/random.h>

#include <array>
#include <cstdlib>
#include <ctime>

#include "base/check.h"
#include "base/error.h"

namespace baleen {

namespace {

constexpr std::string_view kPrefix = "bk-";
constexpr size_t kKeyBytes = 24;
constexpr size_t kHintCharacters = 7;
constexpr std::chrono::seconds kRefreshPeriod{1};

std::string Hash(std::string_view key) {
  std::string hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash;
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char byte : bytes) hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return hex;
}

std::string NewKey() {
  std::string bytes(kKeyBytes, '\0');
  BALEEN_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return std::string(kPrefix) + Hex(bytes);
}

std::string Describe(const KeyLimits& limits) {
  return fmt::format(
      "requests_per_minute={} tokens_per_minute={} machine_seconds_per_minute={} priority={}",
      limits.requests_per_minute, limits.tokens_per_minute, limits.machine_seconds_per_minute,
      PriorityName(limits.priority));
}

}  // namespace

KeyStore::KeyStore(const std::string& where) : database_(where) {
  database_.Execute(
      "CREATE TABLE IF NOT EXISTS api_keys (name TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE,"
      " hint TEXT NOT NULL, created BIGINT NOT NULL, requests_per_minute BIGINT NOT NULL,"
      " tokens_per_minute BIGINT NOT NULL, priority TEXT NOT NULL)");
  database_.Execute(
      fmt::format("CREATE TABLE IF NOT EXISTS key_changes (id {}, time BIGINT NOT NULL,"
                  " action TEXT NOT NULL, name TEXT NOT NULL, hint TEXT NOT NULL)",
                  database_.RowNumberType()));
  // Since 0.2.
  database_.AddColumn("api_keys", "machine_seconds_per_minute",
                      "DOUBLE PRECISION NOT NULL DEFAULT 0");
  database_.AddColumn("key_changes", "details", "TEXT NOT NULL DEFAULT ''");
  database_.MakeAppendOnly("key_changes");
}

// Runs `change` and what it notes as one.
void KeyStore::Change(const std::function<void()>& change) {
  const std::lock_guard lock(mutex_);
  database_.Begin();
  try {
    change();
    database_.Execute("COMMIT");
  } catch (...) {
    database_.Execute("ROLLBACK");
    throw;
  }
  version_ = -1;
}

// Error{kNotFound}: there is no such key.
void KeyStore::Note(const char* action, const std::string& name, const std::string& details) {
  database_
      .Prepare(
          "INSERT INTO key_changes (time, action, name, hint, details)"
          " SELECT CAST(? AS BIGINT), CAST(? AS TEXT), name, hint, CAST(? AS TEXT)"
          " FROM api_keys WHERE name = ?")
      .Bind(int64_t{std::time(nullptr)})
      .Bind(std::string_view(action))
      .Bind(details)
      .Bind(name)
      .Run();
  if (database_.num_changes() == 0) Throw(ErrorCode::kNotFound, "there is no key called {}", name);
}

std::string KeyStore::Add(const std::string& name, const KeyLimits& limits) {
  if (name.empty() || name.size() > 200) {
    Throw(ErrorCode::kInvalidArgument, "the name of a key must have 1 to 200 bytes");
  }
  const std::string key = NewKey();
  Change([&] {
    Statement insert = database_.Prepare(
        "INSERT INTO api_keys (name, hash, hint, created, requests_per_minute, tokens_per_minute,"
        " machine_seconds_per_minute, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO NOTHING");
    insert.Bind(name).Bind(Hex(Hash(key))).Bind(key.substr(0, kHintCharacters));
    insert.Bind(int64_t{std::time(nullptr)});
    insert.Bind(limits.requests_per_minute).Bind(limits.tokens_per_minute);
    insert.Bind(limits.machine_seconds_per_minute);
    insert.Bind(std::string_view(PriorityName(limits.priority))).Run();
    if (database_.num_changes() == 0) {
      Throw(ErrorCode::kInvalidArgument, "there is a key called {}; revoke it first", name);
    }
    Note("add", name, Describe(limits));
  });
  return key;
}

void KeyStore::SetLimits(const std::string& name, const KeyLimits& limits) {
  Change([&] {
    Note("limit", name, Describe(limits));
    database_
        .Prepare(
            "UPDATE api_keys SET requests_per_minute = ?, tokens_per_minute = ?,"
            " machine_seconds_per_minute = ?, priority = ? WHERE name = ?")
        .Bind(limits.requests_per_minute)
        .Bind(limits.tokens_per_minute)
        .Bind(limits.machine_seconds_per_minute)
        .Bind(std::string_view(PriorityName(limits.priority)))
        .Bind(name)
        .Run();
  });
}

void KeyStore::Revoke(const std::string& name) {
  Change([&] {
    Note("revoke", name, "");
    database_.Prepare("DELETE FROM api_keys WHERE name = ?").Bind(name).Run();
  });
}

void KeyStore::Refresh() {
  const auto now = std::chrono::steady_clock::now();
  if (version_ >= 0 && now < checked_ + kRefreshPeriod) return;
  checked_ = now;
  // Every change of a key, by whatever process, adds to this table.
  Statement version = database_.Prepare("SELECT coalesce(max(id), 0) FROM key_changes");
  BALEEN_CHECK(version.Step());
  if (version.Integer(0) == version_) return;
  version_ = version.Integer(0);
  entries_.clear();
  Statement rows = database_.Prepare(
      "SELECT name, hash, hint, created, requests_per_minute, tokens_per_minute,"
      " machine_seconds_per_minute, priority FROM api_keys ORDER BY name");
  while (rows.Step()) {
    KeyInfo info = {.name = rows.Text(0), .hint = rows.Text(2), .created = rows.Integer(3)};
    info.limits = {.requests_per_minute = rows.Integer(4),
                   .tokens_per_minute = rows.Integer(5),
                   .machine_seconds_per_minute = rows.Real(6),
                   .priority = ParsePriority(rows.Text(7))};
    entries_.push_back({.info = std::move(info), .hash = rows.Text(1)});
  }
}

std::vector<KeyInfo> KeyStore::List() {
  const std::lock_guard lock(mutex_);
  Refresh();
  std::vector<KeyInfo> infos;
  for (const Entry& entry : entries_) infos.push_back(entry.info);
  return infos;
}

std::optional<KeyInfo> KeyStore::Find(std::string_view key) {
  const std::string hash = Hex(Hash(key));
  const std::lock_guard lock(mutex_);
  Refresh();
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.hash.size() == hash.size() &&
        CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) {
      found = &entry;
    }
  }
  if (found == nullptr) return std::nullopt;
  return found->info;
}

const char* PriorityName(Priority priority) {
  switch (priority) {
    case Priority::kInteractive:
      return "interactive";
    case Priority::kCompletion:
      return "completion";
    case Priority::kBatch:
      return "batch";
  }
  return "batch";
}

Priority ParsePriority(std::string_view name) {
  for (const Priority priority :
       {Priority::kInteractive, Priority::kCompletion, Priority::kBatch}) {
    if (name == PriorityName(priority)) return priority;
  }
  Throw(ErrorCode::kInvalidArgument, "{}: not one of interactive, completion, batch", name);
}

std::string DefaultDatabasePath() {
  if (const char* path = std::getenv("BALEEN_DATABASE"); path != nullptr && *path != '\0') {
    return path;
  }
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') {
    return std::string(state) + "/baleen/baleen.db";
  }
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "/var/lib") + "/.local/state/baleen/baleen.db";
}

}  // namespace baleen
