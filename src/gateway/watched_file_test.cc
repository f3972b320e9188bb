#include "gateway/watched_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace pd::gateway {
namespace {

namespace fs = std::filesystem;

TEST(WatchedFile, HandsOverEveryChangedContent) {
  std::string pattern = (fs::temp_directory_path() / "pdserve_watch_XXXXXX").string();
  const fs::path folder = ::mkdtemp(pattern.data());
  const fs::path path = folder / "file";
  std::ofstream(path) << "one";
  net::EventLoop loop;
  std::vector<std::string> seen;
  {
    const WatchedFile watched(loop, path, 1000, [&](const Result<std::string>& content) {
      seen.push_back(content ? *content : "error");
      if (seen.size() == 1) {
        // As editors do: a new file in the old one's place.
        std::ofstream(folder / "new") << "three";
        fs::rename(folder / "new", path);
      } else if (seen.size() == 2) {
        fs::remove(path);
        std::ofstream(path) << std::string(2000, 'x');
      } else if (seen.size() == 3) {
        fs::remove(path);
      } else if (seen.size() == 4) {
        std::ofstream(path) << "back";
      } else {
        loop.stop();
      }
    });
    std::ofstream(path) << "the second";
    loop.run();
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"the second", "three", "error", "error", "back"}))
      << "the first error is too large, the second is gone, told once";
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

}  // namespace
}  // namespace pd::gateway
