#include "net/percent_encoding.h"

#include <gtest/gtest.h>

namespace pd::net {
namespace {

TEST(PercentEncoding, IsTakenApartWhereThereIsAny) {
  EXPECT_EQ(percent_decoded("acme%2Ftiny%20model"), "acme/tiny model");
  EXPECT_EQ(percent_decoded("%c3%A4"), "\u00e4");
  EXPECT_EQ(percent_decoded("a+b"), "a+b");
  for (const char* itself : {"", "plain", "%", "100%", "%4", "%zz", "%%", "%+1"})
    EXPECT_EQ(percent_decoded(itself), itself);
}

}  // namespace
}  // namespace pd::net
