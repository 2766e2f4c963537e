#include "server/database.h"

#include <fmt/format.h>

namespace baleen {

bool IsPostgresqlUrl(std::string_view where) {
  return where.starts_with("postgresql://") || where.starts_with("postgres://");
}

Database::Database(const std::string& where)
    : is_postgresql_(IsPostgresqlUrl(where)),
      driver_(is_postgresql_ ? OpenPostgresql(where) : OpenSqlite(where)) {}

void Database::AddColumn(const std::string& table, const std::string& column,
                         const std::string& definition) {
  if (is_postgresql_) {
    Execute(
        fmt::format("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}", table, column, definition));
    return;
  }
  Statement count =
      Prepare(fmt::format("SELECT count(*) FROM pragma_table_info('{}') WHERE name = ?", table));
  count.Bind(column);
  if (count.Step() && count.Integer(0) > 0) return;
  Execute(fmt::format("ALTER TABLE {} ADD COLUMN {} {}", table, column, definition));
}

void Database::MakeAppendOnly(const std::string& table) {
  if (is_postgresql_) {
    Execute(
        fmt::format("CREATE OR REPLACE FUNCTION {0}_only_grows() RETURNS trigger AS"
                    " $$ BEGIN RAISE EXCEPTION '{0} only grows'; END $$ LANGUAGE plpgsql",
                    table));
    Execute(
        fmt::format("CREATE OR REPLACE TRIGGER {0}_only_grows BEFORE UPDATE OR DELETE OR"
                    " TRUNCATE ON {0} FOR EACH STATEMENT EXECUTE FUNCTION {0}_only_grows()",
                    table));
    return;
  }
  for (const char* change : {"UPDATE", "DELETE"}) {
    Execute(
        fmt::format("CREATE TRIGGER IF NOT EXISTS {1}_no_{0} BEFORE {0} ON {1} BEGIN"
                    " SELECT RAISE(ABORT, '{1} only grows'); END",
                    change, table));
  }
}

}  // namespace baleen
