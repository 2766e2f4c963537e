#include "server/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace baleen {

namespace {

constexpr int kBusyTimeoutMs = 10'000;

}  // namespace

void Statement::Closer::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
void Database::Closer::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

void Statement::Check(int code) const {
  if (code != SQLITE_OK) Throw(ErrorCode::kFailed, "database: {}", sqlite3_errmsg(database_));
}

Statement::Statement(sqlite3* database, std::string_view sql) : database_(database) {
  sqlite3_stmt* statement = nullptr;
  Check(
      sqlite3_prepare_v2(database, sql.data(), static_cast<int>(sql.size()), &statement, nullptr));
  statement_.reset(statement);
}

Statement& Statement::Bind(int64_t value) {
  Check(sqlite3_bind_int64(statement_.get(), ++num_bound_, value));
  return *this;
}

Statement& Statement::Bind(double value) {
  Check(sqlite3_bind_double(statement_.get(), ++num_bound_, value));
  return *this;
}

Statement& Statement::Bind(std::string_view text) {
  Check(sqlite3_bind_text(statement_.get(), ++num_bound_, text.data(),
                          static_cast<int>(text.size()), SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::BindNull() {
  Check(sqlite3_bind_null(statement_.get(), ++num_bound_));
  return *this;
}

bool Statement::Step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) Check(code);
  return false;
}

void Statement::Run() {
  while (Step()) {
  }
  Check(sqlite3_reset(statement_.get()));
  num_bound_ = 0;
}

int64_t Statement::Integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}
double Statement::Real(int column) const { return sqlite3_column_double(statement_.get(), column); }
std::string Statement::Text(int column) const {
  const auto* text = sqlite3_column_text(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return text == nullptr ? "" : std::string(reinterpret_cast<const char*>(text), size);
}
bool Statement::IsNull(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

Database::Database(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code ignored;
  if (!folder.empty()) std::filesystem::create_directories(folder, ignored);
  // SQLite gives its other files the mode of this one.
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) Throw(ErrorCode::kNotFound, "{}: cannot be opened: {}", path, std::strerror(errno));
  ::close(fd);
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE, nullptr);
  database_.reset(database);
  if (code != SQLITE_OK) Throw(ErrorCode::kNotFound, "{}: {}", path, sqlite3_errstr(code));
  sqlite3_busy_timeout(database, kBusyTimeoutMs);
  Execute("PRAGMA journal_mode = WAL");
  Execute("PRAGMA synchronous = FULL");
}

int64_t Database::num_changes() const { return sqlite3_changes64(database_.get()); }

}  // namespace baleen
