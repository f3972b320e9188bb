#include "base/mapped_file.h"

#include <gtest/gtest.h>

#include <fstream>

namespace pd {
namespace {

TEST(MappedFile, MapsWhatIsThere) {
  const auto path = std::filesystem::path(testing::TempDir()) / "mapped_file_test";
  std::ofstream(path) << "hello";
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->bytes().size(), 5u);
  EXPECT_EQ(static_cast<char>(file->bytes()[0]), 'h');
  EXPECT_EQ(read_file(path, 5).value(), "hello");
  EXPECT_EQ(read_file(path, 4).error().code, ErrorCode::kTooLarge);
}

TEST(MappedFile, SaysWhatIsWrong) {
  EXPECT_EQ(MappedFile::open("/nonexistent/x").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(MappedFile::open("/tmp").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace pd
