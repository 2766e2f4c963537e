// server/database.h: a SQL database and its statements: a SQLite file, or PostgreSQL by a URL.
//
// A thin wall before sqlite3.h and libpq (docs/decisions/0009-sqlite-directly.md, 0011-libpq.md).
// SQLite's files are made with mode 0600 and written ahead (WAL) with full synchronisation: what
// was committed survives a crash of the machine; PostgreSQL keeps its own promises. A connection
// to it that was lost is made anew by the next statement. Statements are written in what both
// understand, with ? for values. Errors: Error{kFailed} with the database's own words; kNotFound,
// it cannot be opened. A URL is never quoted: it may hold a password. Threads: one at a time for
// each Database; other processes may use the same one.
#ifndef BALEEN_SERVER_DATABASE_H_
#define BALEEN_SERVER_DATABASE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace baleen {

class StatementDriver {
 public:
  virtual ~StatementDriver() = default;
  virtual void Bind(int64_t value) = 0;
  virtual void Bind(double value) = 0;
  virtual void Bind(std::string_view text) = 0;
  virtual void BindNull() = 0;
  virtual bool Step() = 0;
  virtual void Reset() = 0;
  virtual int64_t Integer(int column) const = 0;
  virtual double Real(int column) const = 0;
  virtual std::string Text(int column) const = 0;
};

class DatabaseDriver {
 public:
  virtual ~DatabaseDriver() = default;
  virtual std::unique_ptr<StatementDriver> Prepare(std::string_view sql) = 0;
  virtual int64_t num_changes() const = 0;
};

// Values are bound in order, from the first; columns are numbered from 0.
class Statement {
 public:
  explicit Statement(std::unique_ptr<StatementDriver> driver) : driver_(std::move(driver)) {}

  Statement& Bind(int64_t value) {
    driver_->Bind(value);
    return *this;
  }
  Statement& Bind(double value) {
    driver_->Bind(value);
    return *this;
  }
  Statement& Bind(std::string_view text) {
    driver_->Bind(text);
    return *this;
  }
  Statement& BindNull() {
    driver_->BindNull();
    return *this;
  }

  // Goes to the next row; false when there is none.
  bool Step() { return driver_->Step(); }
  // Runs to the end, and can be bound anew.
  void Run() {
    while (Step()) {
    }
    driver_->Reset();
  }

  int64_t Integer(int column) const { return driver_->Integer(column); }
  double Real(int column) const { return driver_->Real(column); }
  std::string Text(int column) const { return driver_->Text(column); }

 private:
  std::unique_ptr<StatementDriver> driver_;
};

class Database {
 public:
  // A path, whose file and folder are made if they are not there, or postgresql://... .
  explicit Database(const std::string& where);

  Statement Prepare(std::string_view sql) { return Statement(driver_->Prepare(sql)); }
  void Execute(std::string_view sql) { Prepare(sql).Run(); }
  // How many rows the last statement changed.
  int64_t num_changes() const { return driver_->num_changes(); }

  // Begins a transaction that will write; COMMIT or ROLLBACK ends it.
  void Begin() { Execute(is_postgresql_ ? "BEGIN" : "BEGIN IMMEDIATE"); }
  // `definition`: "name TYPE NOT NULL DEFAULT ...". Does nothing if the column is there.
  void AddColumn(const std::string& table, const std::string& column,
                 const std::string& definition);
  // From now on, rows of the table can be added, and neither changed nor deleted.
  void MakeAppendOnly(const std::string& table);
  // The type of a column that numbers the rows.
  const char* RowNumberType() const {
    return is_postgresql_ ? "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
                          : "INTEGER PRIMARY KEY";
  }

 private:
  bool is_postgresql_;
  std::unique_ptr<DatabaseDriver> driver_;
};

bool IsPostgresqlUrl(std::string_view where);

// The drivers.
std::unique_ptr<DatabaseDriver> OpenSqlite(const std::string& path);
std::unique_ptr<DatabaseDriver> OpenPostgresql(const std::string& url);

}  // namespace baleen

#endif  // BALEEN_SERVER_DATABASE_H_
