#include "cli/private_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace pd::cli {
namespace {

namespace fs = std::filesystem;

class PrivateFolders : public testing::Test {
 protected:
  PrivateFolders() {
    std::string pattern = (temporary_folder() / "pdserve_folders_XXXXXX").string();
    parent_ = ::mkdtemp(pattern.data());
  }
  ~PrivateFolders() override {
    std::error_code ignored;
    fs::remove_all(parent_, ignored);
  }
  PrivateFolder make() { return PrivateFolder::make("cluster", parent_).value(); }
  fs::path parent_;
};

TEST_F(PrivateFolders, EndWithTheirOwner) {
  fs::path path;
  {
    const PrivateFolder folder = make();
    path = folder.path();
    std::ofstream(path / "log") << "text";
    EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_all);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(PrivateFolders, OfAKilledOwnerEndWithTheNext) {
  int path_pipe[2];
  ASSERT_EQ(::pipe(path_pipe), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const PrivateFolder folder = make();
    const std::string path = folder.path().string();
    (void)!::write(path_pipe[1], path.data(), path.size());
    ::_exit(0);  // no destructor runs, as with SIGKILL
  }
  ::waitpid(child, nullptr, 0);
  char buffer[4096];
  const ssize_t n = ::read(path_pipe[0], buffer, sizeof(buffer));
  ::close(path_pipe[0]);
  ::close(path_pipe[1]);
  ASSERT_GT(n, 0);
  const fs::path left(std::string(buffer, static_cast<std::size_t>(n)));
  ASSERT_TRUE(fs::exists(left));
  const PrivateFolder next = make();
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(PrivateFolders, OfTheLivingAndTheKeptAndOthersStay) {
  const PrivateFolder living = make();
  fs::path kept;
  {
    PrivateFolder folder = make();
    kept = folder.path();
    folder.keep();
  }
  fs::create_directory(parent_ / "cluster-abcdef");  // somebody's own
  fs::create_directory(parent_ / "cluster-of-mine");
  std::ofstream(parent_ / "cluster-of-mine/owner.lock") << "";
  const PrivateFolder next = make();
  EXPECT_TRUE(fs::exists(living.path()));
  EXPECT_TRUE(fs::exists(kept));
  EXPECT_TRUE(fs::exists(parent_ / "cluster-abcdef"));
  EXPECT_TRUE(fs::exists(parent_ / "cluster-of-mine"));
}

TEST_F(PrivateFolders, SayWhereTheyCannotBe) {
  const auto folder = PrivateFolder::make("cluster", parent_ / "none");
  ASSERT_FALSE(folder);
  EXPECT_NE(folder.error().message.find((parent_ / "none").string()), std::string::npos);
}

}  // namespace
}  // namespace pd::cli
