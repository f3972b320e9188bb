#include <fmt/format.h>
#include <sqlite3.h>

#include "base/check.h"
#include "store/store.h"

namespace pd::store {
namespace {

constexpr int kSchemaVersion = 1;

class Statement {
 public:
  Statement(sqlite3* db, const char* sql) { sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr); }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // The text must outlive the statement's next step.
  void bind(int index, std::string_view text) {
    sqlite3_bind_text(statement_, index, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
  }
  void bind(int index, std::uint64_t number) {
    sqlite3_bind_int64(statement_, index, static_cast<sqlite3_int64>(number));
  }
  int step() { return statement_ == nullptr ? SQLITE_ERROR : sqlite3_step(statement_); }
  void reset() { sqlite3_reset(statement_); }
  std::string text(int column) const {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return bytes == nullptr
               ? std::string()
               : std::string(bytes,
                             static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  std::uint64_t number(int column) const {
    return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
};

class EmbeddedStore final : public ClusterStore {
 public:
  EmbeddedStore(sqlite3* db, std::string name) : db_(db), name_(std::move(name)) {}
  ~EmbeddedStore() override { sqlite3_close(db_); }

  Status prepare();
  Result<std::optional<Entry>> get(std::string_view key) const override;
  Result<std::vector<Entry>> list(std::string_view prefix) const override;
  Result<std::uint64_t> commit(const std::vector<Change>& changes) override;
  Result<std::uint64_t> revision() const override;

 private:
  std::unexpected<Error> failed() const;
  Status run(const char* sql);
  Result<std::uint64_t> apply(const std::vector<Change>& changes);

  sqlite3* db_;
  std::string name_;
};

std::unexpected<Error> EmbeddedStore::failed() const {
  const int code = sqlite3_errcode(db_);
  const char* what = code == SQLITE_BUSY ? "in use by another process; stop it first"
                     : code == SQLITE_NOTADB
                         ? "not a store (or damaged); move it away to start with an empty one"
                     : code == SQLITE_FULL ? "the disk is full; free some space"
                                           : sqlite3_errmsg(db_);
  return error(code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ErrorCode::kCorrupt
                                                               : ErrorCode::kUnavailable,
               fmt::format("store {}: {}", name_, what));
}

Status EmbeddedStore::run(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failed();
  return {};
}

Status EmbeddedStore::prepare() {
  // EXCLUSIVE keeps the file's lock from the first write on: two controllers cannot share one
  // store.
  for (const char* sql : {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL",
                          "PRAGMA synchronous=FULL", "BEGIN IMMEDIATE",
                          "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB "
                          "NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID",
                          "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, number "
                          "INTEGER NOT NULL) WITHOUT ROWID",
                          "INSERT OR IGNORE INTO counters VALUES ('revision', 0)"}) {
    if (auto status = run(sql); !status) return status;
  }
  Statement insert(db_, "INSERT OR IGNORE INTO counters VALUES ('schema', ?1)");
  insert.bind(1, std::uint64_t{kSchemaVersion});
  if (insert.step() != SQLITE_DONE) return failed();
  Statement schema(db_, "SELECT number FROM counters WHERE name = 'schema'");
  if (schema.step() != SQLITE_ROW) return failed();
  if (schema.number(0) != kSchemaVersion) {
    return error(ErrorCode::kIncompatible,
                 fmt::format("store {}: written by another version (schema {}, this one reads {})",
                             name_, schema.number(0), kSchemaVersion));
  }
  schema.reset();
  insert.reset();
  return run("COMMIT");
}

Result<std::uint64_t> EmbeddedStore::revision() const {
  Statement select(db_, "SELECT number FROM counters WHERE name = 'revision'");
  if (select.step() != SQLITE_ROW) return failed();
  return select.number(0);
}

Result<std::optional<Entry>> EmbeddedStore::get(std::string_view key) const {
  Statement select(db_, "SELECT value, revision FROM entries WHERE key = ?1");
  select.bind(1, key);
  switch (select.step()) {
    case SQLITE_ROW:
      return Entry{std::string(key), select.text(0), select.number(1)};
    case SQLITE_DONE:
      return std::nullopt;
    default:
      return failed();
  }
}

Result<std::vector<Entry>> EmbeddedStore::list(std::string_view prefix) const {
  Statement select(db_,
                   "SELECT key, value, revision FROM entries WHERE substr(key, 1, length(?1)) = ?1 "
                   "ORDER BY key");
  select.bind(1, prefix);
  std::vector<Entry> out;
  int code = 0;
  while ((code = select.step()) == SQLITE_ROW)
    out.push_back({select.text(0), select.text(1), select.number(2)});
  if (code != SQLITE_DONE) return failed();
  return out;
}

Result<std::uint64_t> EmbeddedStore::commit(const std::vector<Change>& changes) {
  if (auto begun = run("BEGIN IMMEDIATE"); !begun) return std::unexpected(begun.error());
  auto revision = apply(changes);
  if (revision) {
    if (auto committed = run("COMMIT"); !committed) revision = std::unexpected(committed.error());
  }
  if (!revision) (void)run("ROLLBACK");
  return revision;
}

Result<std::uint64_t> EmbeddedStore::apply(const std::vector<Change>& changes) {
  auto current = revision();
  if (!current) return current;
  const std::uint64_t next = *current + 1;
  for (const Change& change : changes) {
    if (change.expected) {
      auto entry = get(change.key);
      if (!entry) return std::unexpected(entry.error());
      const std::uint64_t found = *entry ? (*entry)->revision : 0;
      if (found != *change.expected) {
        return error(ErrorCode::kAlreadyExists,
                     fmt::format("store {}: '{}' is at revision {}, not {}", name_, change.key,
                                 found, *change.expected));
      }
    }
    Statement write(db_, change.value ? "INSERT INTO entries VALUES (?1, ?2, ?3) ON CONFLICT (key) "
                                        "DO UPDATE SET value = ?2, revision = ?3"
                                      : "DELETE FROM entries WHERE key = ?1");
    write.bind(1, change.key);
    if (change.value) {
      write.bind(2, *change.value);
      write.bind(3, next);
    }
    if (write.step() != SQLITE_DONE) return failed();
  }
  Statement count(db_, "UPDATE counters SET number = ?1 WHERE name = 'revision'");
  count.bind(1, next);
  if (count.step() != SQLITE_DONE) return failed();
  return next;
}

}  // namespace

Result<std::unique_ptr<ClusterStore>> open_embedded_store(const std::filesystem::path& path) {
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  auto store = std::make_unique<EmbeddedStore>(db, path.string());
  if (code != SQLITE_OK) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("store {}: {}", path.string(), sqlite3_errstr(code)));
  }
  if (auto status = store->prepare(); !status) return std::unexpected(status.error());
  return store;
}

}  // namespace pd::store
