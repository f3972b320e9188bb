#include "gateway/keys_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace pd::gateway {
namespace {

namespace fs = std::filesystem;

class KeysFileTest : public testing::Test {
 protected:
  KeysFileTest() {
    std::string pattern = (fs::temp_directory_path() / "pdserve_keys_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ / "access.toml";
    loop_.call_at(loop_.now() + std::chrono::seconds(10), [this] {
      late_ = true;
      loop_.stop();
    });
  }
  ~KeysFileTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  void put(const std::string& content) const {
    std::ofstream(path_.string() + ".new") << content;
    fs::rename(path_.string() + ".new", path_);
  }
  static std::string with_key(const std::string& name) {
    return "[[tenant]]\nname = \"t\"\n[[key]]\nname = \"" + name +
           "\"\ntenant = \"t\"\nsha256 = \"" + std::string(64, 'a') + "\"\n";
  }

  fs::path folder_, path_;
  net::EventLoop loop_;
  bool late_ = false;
};

// Between two of these, a key that was taken away stayed valid for good.
TEST_F(KeysFileTest, AChangeWhileItIsOpenedIsSeen) {
  put(with_key("first"));
  std::vector<std::string> used;
  const auto file = KeysFile::open(loop_, path_, [&](const protocol::AccessFile& keys) {
    used.push_back(keys.keys.at(0).name);
    if (used.size() == 1) return put(with_key("second"));
    loop_.stop();
  });
  ASSERT_TRUE(file) << file.error().message;
  loop_.run();
  EXPECT_FALSE(late_);
  EXPECT_THAT(used, testing::ElementsAre("first", "second"));
}

TEST_F(KeysFileTest, AChangeIsReadBesideTheLoopAndAMistakeChangesNothing) {
  put(with_key("first"));
  std::vector<std::string> used;
  std::thread::id reader;
  const auto file = KeysFile::open(loop_, path_, [&](const protocol::AccessFile& keys) {
    used.push_back(keys.keys.at(0).name);
    if (used.size() == 1) return;
    reader = std::this_thread::get_id();
    loop_.stop();
  });
  ASSERT_TRUE(file) << file.error().message;
  put("[[key]]\n");
  loop_.call_at(loop_.now() + std::chrono::milliseconds(1500), [&] { put(with_key("third")); });
  loop_.run();
  EXPECT_FALSE(late_);
  EXPECT_THAT(used, testing::ElementsAre("first", "third"));
  EXPECT_NE(reader, std::this_thread::get_id());
}

TEST_F(KeysFileTest, ErrorsNameTheFileAndEveryMistake) {
  const auto failure = [&] {
    const auto file = KeysFile::open(loop_, path_, [](const protocol::AccessFile&) {});
    return file ? "it worked" : file.error().message;
  };
  EXPECT_THAT(failure(), testing::HasSubstr("[gateway] access_file: " + path_.string()));
  put("[[tenant]]\n[[key]]\n");
  EXPECT_THAT(failure(), testing::AllOf(testing::HasSubstr(path_.string() + ":1: [[tenant]]"),
                                        testing::HasSubstr(path_.string() + ":2: [[key]]")));
}

}  // namespace
}  // namespace pd::gateway
