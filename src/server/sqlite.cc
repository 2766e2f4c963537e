// OpenSqlite: the file behind Database.
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "server/database.h"

namespace baleen {

namespace {

constexpr int kBusyTimeoutMs = 10'000;

class SqliteStatement final : public StatementDriver {
 public:
  SqliteStatement(sqlite3* database, std::string_view sql) : database_(database) {
    sqlite3_stmt* statement = nullptr;
    Check(sqlite3_prepare_v2(database, sql.data(), static_cast<int>(sql.size()), &statement,
                             nullptr));
    statement_.reset(statement);
  }

  void Bind(int64_t value) override {
    Check(sqlite3_bind_int64(statement_.get(), ++num_bound_, value));
  }
  void Bind(double value) override {
    Check(sqlite3_bind_double(statement_.get(), ++num_bound_, value));
  }
  void Bind(std::string_view text) override {
    Check(sqlite3_bind_text(statement_.get(), ++num_bound_, text.data(),
                            static_cast<int>(text.size()), SQLITE_TRANSIENT));
  }
  void BindNull() override { Check(sqlite3_bind_null(statement_.get(), ++num_bound_)); }

  bool Step() override {
    const int code = sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) Check(code);
    return false;
  }
  void Reset() override {
    Check(sqlite3_reset(statement_.get()));
    num_bound_ = 0;
  }

  int64_t Integer(int column) const override {
    return sqlite3_column_int64(statement_.get(), column);
  }
  double Real(int column) const override { return sqlite3_column_double(statement_.get(), column); }
  std::string Text(int column) const override {
    const auto* text = sqlite3_column_text(statement_.get(), column);
    const int size = sqlite3_column_bytes(statement_.get(), column);
    return text == nullptr ? "" : std::string(reinterpret_cast<const char*>(text), size);
  }

 private:
  struct Closer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  void Check(int code) const {
    if (code != SQLITE_OK) Throw(ErrorCode::kFailed, "database: {}", sqlite3_errmsg(database_));
  }

  sqlite3* database_;
  std::unique_ptr<sqlite3_stmt, Closer> statement_;
  int num_bound_ = 0;
};

class SqliteDatabase final : public DatabaseDriver {
 public:
  explicit SqliteDatabase(const std::string& path) {
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    std::error_code ignored;
    if (!folder.empty()) std::filesystem::create_directories(folder, ignored);
    // SQLite gives its other files the mode of this one. A file that is there is not opened here:
    // to close it would let go of the locks that this process' other connections have on it.
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST) {
      Throw(ErrorCode::kNotFound, "{}: cannot be opened: {}", path, std::strerror(errno));
    }
    if (fd >= 0) ::close(fd);
    sqlite3* database = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE, nullptr);
    database_.reset(database);
    if (code != SQLITE_OK) Throw(ErrorCode::kNotFound, "{}: {}", path, sqlite3_errstr(code));
    sqlite3_busy_timeout(database, kBusyTimeoutMs);
    for (const char* pragma : {"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"}) {
      SqliteStatement statement(database, pragma);
      while (statement.Step()) {
      }
    }
  }

  std::unique_ptr<StatementDriver> Prepare(std::string_view sql) override {
    return std::make_unique<SqliteStatement>(database_.get(), sql);
  }
  int64_t num_changes() const override { return sqlite3_changes64(database_.get()); }

 private:
  struct Closer {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  std::unique_ptr<sqlite3, Closer> database_;
};

}  // namespace

std::unique_ptr<DatabaseDriver> OpenSqlite(const std::string& path) {
  return std::make_unique<SqliteDatabase>(path);
}

}  // namespace baleen
