// Keys and the ledger, on files of their own.
#include "server/ledger.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>

#include "baleen/error.h"
#include "server/keys.h"

namespace baleen {
namespace {

class LedgerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "baleen-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/state/baleen.db";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  std::string path_;
};

LedgerRow Row(const std::string& id, const std::string& key) {
  LedgerRow row;
  row.id = id;
  row.time = 1000;
  row.key = key;
  row.model = "m";
  row.prompt_tokens = 10;
  row.cached_tokens = 4;
  row.completion_tokens = 3;
  row.prefill_seconds = 0.5;
  row.decode_seconds = 0.25;
  return row;
}

TEST_F(LedgerTest, SumsByKeyAndModel) {
  {
    Ledger ledger(path_);
    for (int i = 0; i < 50; ++i) {
      ledger.Record(Row(std::to_string(i), i < 20 ? "a" : "b"), [](bool ok) { EXPECT_TRUE(ok); });
    }
  }
  const std::vector<UsageTotal> totals = Ledger::Totals(path_, 0);
  ASSERT_EQ(totals.size(), 2u);
  EXPECT_EQ(totals[0].key, "a");
  EXPECT_EQ(totals[0].requests, 20);
  EXPECT_EQ(totals[1].prompt_tokens, 300);
  EXPECT_EQ(totals[1].cached_tokens, 120);
  EXPECT_EQ(totals[1].completion_tokens, 90);
  EXPECT_DOUBLE_EQ(totals[1].compute_seconds, 22.5);
  EXPECT_TRUE(Ledger::Totals(path_, 1001).empty());
  const std::string key = "b";
  EXPECT_EQ(Ledger::Totals(path_, 0, &key).size(), 1u);
  struct stat status = {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(LedgerTest, TheSameRequestIsNotWrittenTwice) {
  Ledger ledger(path_);
  const auto record = [&](const std::string& id) {
    std::promise<bool> done;
    ledger.Record(Row(id, ""), [&](bool ok) { done.set_value(ok); });
    return done.get_future().get();
  };
  EXPECT_TRUE(record("x"));
  EXPECT_TRUE(record("x"));  // as after a lost connection: it is there, and stays once
  EXPECT_TRUE(record("y"));
  EXPECT_EQ(Ledger::Totals(path_, 0)[0].requests, 2);
  Database other(path_);
  other.Execute("ALTER TABLE requests RENAME TO gone");
  EXPECT_FALSE(record("z"));
  other.Execute("ALTER TABLE gone RENAME TO requests");
  EXPECT_TRUE(record("z"));  // a failure does not stop the ledger
  EXPECT_EQ(Ledger::Totals(path_, 0)[0].requests, 3);
}

TEST_F(LedgerTest, KeysAreFoundByTheirSecretOnly) {
  KeyStore store(path_);
  EXPECT_TRUE(store.empty());
  const std::string alice = store.Add("alice", {.requests_per_minute = 5});
  const std::string bob = store.Add("bob", {.priority = Priority::kBatch});
  EXPECT_EQ(alice.size(), 51u);
  EXPECT_NE(alice, bob);
  ASSERT_TRUE(store.Find(alice));
  EXPECT_EQ(store.Find(alice)->name, "alice");
  EXPECT_EQ(store.Find(alice)->limits.requests_per_minute, 5);
  EXPECT_EQ(store.Find(bob)->limits.priority, Priority::kBatch);
  std::string wrong = alice;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  EXPECT_FALSE(store.Find(wrong));
  EXPECT_FALSE(store.Find(""));
  EXPECT_FALSE(store.Find("alice"));
  EXPECT_THROW(store.Add("alice", {}), Error);
  EXPECT_THROW(store.Add("", {}), Error);
  store.Revoke("alice");
  EXPECT_FALSE(store.Find(alice));
  EXPECT_THROW(store.Revoke("alice"), Error);
  EXPECT_EQ(store.List().size(), 1u);
}

TEST_F(LedgerTest, KeysAreNowhereInTheFilesAndChangesAre) {
  std::string key;
  {
    KeyStore store(path_);
    key = store.Add("alice", {});
    store.Revoke("alice");
  }
  for (const auto& file : std::filesystem::directory_iterator(folder_ + "/state")) {
    std::ifstream stream(file.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(stream), {});
    EXPECT_EQ(bytes.find(key.substr(3)), std::string::npos) << file.path();
  }
  Database database(path_);
  Statement changes = database.Prepare("SELECT action, name FROM key_changes ORDER BY id");
  ASSERT_TRUE(changes.Step());
  EXPECT_EQ(changes.Text(0) + changes.Text(1), "addalice");
  ASSERT_TRUE(changes.Step());
  EXPECT_EQ(changes.Text(0) + changes.Text(1), "revokealice");
  EXPECT_THROW(database.Execute("DELETE FROM key_changes"), Error);
  EXPECT_THROW(database.Execute("UPDATE key_changes SET name = 'x'"), Error);
}

TEST_F(LedgerTest, AnotherProcessesChangesAreSeen) {
  KeyStore server(path_), tool(path_);
  EXPECT_TRUE(server.empty());
  const std::string key = tool.Add("late", {});
  bool found = false;
  for (int i = 0; i < 300 && !found; ++i) {
    found = server.Find(key).has_value();
    if (!found) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace baleen
