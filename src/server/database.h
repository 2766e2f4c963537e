// server/database.h: a SQLite file and its statements.
//
// A thin wall before sqlite3.h (docs/decisions/0009-sqlite-directly.md). Files are made with mode
// 0600 and written ahead (WAL) with full synchronisation: what was committed survives a crash of
// the machine. Errors: Error{kFailed} with SQLite's own words; kNotFound, the file cannot be
// opened. Threads: one at a time for each Database; other processes may have the same file open.
#ifndef BALEEN_SERVER_DATABASE_H_
#define BALEEN_SERVER_DATABASE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace baleen {

// Values are bound in order, from the first; columns are numbered from 0.
class Statement {
 public:
  Statement(sqlite3* database, std::string_view sql);

  Statement& Bind(int64_t value);
  Statement& Bind(double value);
  Statement& Bind(std::string_view text);
  Statement& BindNull();

  // Goes to the next row; false when there is none.
  bool Step();
  // Runs to the end, and can be bound anew.
  void Run();

  int64_t Integer(int column) const;
  double Real(int column) const;
  std::string Text(int column) const;
  bool IsNull(int column) const;

 private:
  struct Closer {
    void operator()(sqlite3_stmt* statement) const;
  };
  void Check(int code) const;

  sqlite3* database_;
  std::unique_ptr<sqlite3_stmt, Closer> statement_;
  int num_bound_ = 0;
};

class Database {
 public:
  // Makes the file, and its folder, if they are not there.
  explicit Database(const std::string& path);

  Statement Prepare(std::string_view sql) { return Statement(database_.get(), sql); }
  void Execute(std::string_view sql) { Prepare(sql).Run(); }
  // How many rows the last statement changed.
  int64_t num_changes() const;

 private:
  struct Closer {
    void operator()(sqlite3* database) const;
  };
  std::unique_ptr<sqlite3, Closer> database_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_DATABASE_H_
