#include "gateway/certificate_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "net/tls_testing.h"

namespace pd::gateway {
namespace {

namespace fs = std::filesystem;
using net::testing::make_certificate;

class CertificateFilesTest : public ::testing::Test {
 protected:
  CertificateFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "pdserve_certificate_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    paths_ = {folder_ / "cert.pem", folder_ / "key.pem"};
  }
  ~CertificateFilesTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  static void put(const fs::path& path, const std::string& content) {
    std::ofstream(path.string() + ".new") << content;
    fs::rename(path.string() + ".new", path);
  }
  std::string failure() {
    const auto files = CertificateFiles::open(loop_, paths_, metrics_, {});
    return files ? "it worked" : files.error().message;
  }

  fs::path folder_;
  CertificatePaths paths_;
  net::EventLoop loop_;
  Metrics metrics_;
};

TEST_F(CertificateFilesTest, ARenewalIsUsedWhenBothFilesAreThere) {
  const auto first = make_certificate("IP:127.0.0.1", 1000);
  const auto second = make_certificate("IP:127.0.0.1", 5000);
  put(paths_.certificate, first.certificate);
  put(paths_.key, first.key);
  CertificateFiles::Context renewed;
  const auto files = CertificateFiles::open(loop_, paths_, metrics_, [&](auto context) {
    renewed = std::move(context);
    loop_.stop();
  });
  ASSERT_TRUE(files.has_value()) << files.error().message;
  const auto before = (*files)->context();

  // A renewal in two steps, with time in between: the first alone makes no pair.
  put(paths_.certificate, second.certificate);
  const Counter refused = metrics_.counter("pdserve_tls_certificate_refused_total", "");
  std::function<void()> look = [&] {
    if (refused.value() == 0)
      return static_cast<void>(loop_.call_at(loop_.now() + std::chrono::milliseconds(10), look));
    EXPECT_EQ((*files)->context(), before);
    put(paths_.key, second.key);
  };
  look();
  loop_.run();
  ASSERT_NE(renewed, nullptr);
  EXPECT_EQ((*files)->context(), renewed);
  EXPECT_GT(renewed->not_after(), before->not_after() + 2000);
  EXPECT_EQ(metrics_.gauge("pdserve_tls_certificate_not_after_seconds", "").value(),
            static_cast<double>(renewed->not_after()));
}

TEST_F(CertificateFilesTest, ErrorsNameTheFile) {
  const auto pair = make_certificate();
  EXPECT_THAT(failure(), ::testing::HasSubstr("cert.pem"));
  put(paths_.certificate, pair.certificate);
  EXPECT_THAT(failure(), ::testing::HasSubstr("key.pem"));
  put(paths_.key, make_certificate().key);
  EXPECT_THAT(failure(), ::testing::HasSubstr("does not belong"));
  put(paths_.key, pair.key);
  EXPECT_EQ(failure(), "it worked");
}

}  // namespace
}  // namespace pd::gateway
