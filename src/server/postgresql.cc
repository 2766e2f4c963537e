// OpenPostgresql: a connection to a server behind Database.
#include <libpq-fe.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <vector>

#include "base/error.h"
#include "server/database.h"

namespace baleen {

namespace {

struct ResultCloser {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, ResultCloser>;

struct PostgresqlConnection {
  struct Closer {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };
  std::unique_ptr<PGconn, Closer> handle;
  int64_t num_changes = 0;

  // One line, without what the client library adds below.
  std::string Problem() const {
    const std::string text = PQerrorMessage(handle.get());
    return text.substr(0, text.find('\n'));
  }
};

// The first ? becomes $1, the second $2, ...
std::string Numbered(std::string_view sql) {
  std::string numbered;
  int count = 0;
  for (const char c : sql) numbered += c == '?' ? fmt::format("${}", ++count) : std::string(1, c);
  return numbered;
}

// Values go as texts; the server knows what its columns are.
class PostgresqlStatement final : public StatementDriver {
 public:
  PostgresqlStatement(PostgresqlConnection& connection, std::string_view sql)
      : connection_(connection), sql_(Numbered(sql)) {}

  void Bind(int64_t value) override { values_.push_back(std::to_string(value)); }
  void Bind(double value) override { values_.push_back(fmt::format("{:.17g}", value)); }
  void Bind(std::string_view text) override {
    // PostgreSQL has no byte 0 in texts.
    std::string clean(text);
    for (char& c : clean) c = c == '\0' ? ' ' : c;
    values_.push_back(std::move(clean));
  }
  void BindNull() override { values_.push_back(std::nullopt); }

  bool Step() override {
    if (!result_) Execute();
    return ++row_ < PQntuples(result_.get());
  }
  void Reset() override {
    result_.reset();
    values_.clear();
    row_ = -1;
  }

  int64_t Integer(int column) const override {
    return std::strtoll(PQgetvalue(result_.get(), row_, column), nullptr, 10);
  }
  double Real(int column) const override {
    return std::strtod(PQgetvalue(result_.get(), row_, column), nullptr);
  }
  std::string Text(int column) const override { return PQgetvalue(result_.get(), row_, column); }

 private:
  void Execute() {
    std::vector<const char*> values;
    for (const auto& value : values_) values.push_back(value ? value->c_str() : nullptr);
    result_.reset(PQexecParams(connection_.handle.get(), sql_.c_str(),
                               static_cast<int>(values.size()), nullptr, values.data(), nullptr,
                               nullptr, 0));
    const ExecStatusType status = PQresultStatus(result_.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
      result_.reset();
      Throw(ErrorCode::kFailed, "database: {}", connection_.Problem());
    }
    const char* changes = PQcmdTuples(result_.get());
    connection_.num_changes = std::strtoll(changes, nullptr, 10);
  }

  PostgresqlConnection& connection_;
  std::string sql_;
  std::vector<std::optional<std::string>> values_;
  Result result_;
  int row_ = -1;
};

class PostgresqlDatabase final : public DatabaseDriver {
 public:
  explicit PostgresqlDatabase(const std::string& url) {
    connection_.handle.reset(PQconnectdb(url.c_str()));
    if (PQstatus(connection_.handle.get()) != CONNECTION_OK) {
      Throw(ErrorCode::kNotFound, "the PostgreSQL database cannot be reached: {}",
            connection_.Problem());
    }
    // "... exists already, skipping" would go to standard error.
    PQsetNoticeProcessor(
        connection_.handle.get(), [](void*, const char*) {}, nullptr);
  }

  std::unique_ptr<StatementDriver> Prepare(std::string_view sql) override {
    if (PQstatus(connection_.handle.get()) == CONNECTION_BAD) PQreset(connection_.handle.get());
    return std::make_unique<PostgresqlStatement>(connection_, sql);
  }
  int64_t num_changes() const override { return connection_.num_changes; }

 private:
  PostgresqlConnection connection_;
};

}  // namespace

std::unique_ptr<DatabaseDriver> OpenPostgresql(const std::string& url) {
  return std::make_unique<PostgresqlDatabase>(url);
}

}  // namespace baleen
