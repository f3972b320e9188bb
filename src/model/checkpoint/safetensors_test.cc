#include "model/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "base/text.h"
#include "model/checkpoint/test_files.h"

namespace pd::model {
namespace {

Result<Safetensors> parse(std::string_view bytes) {
  return Safetensors::parse(test::as_bytes(bytes), "w.safetensors");
}

TEST(Safetensors, ReadsTypesShapesAndData) {
  const std::string bytes = test::safetensors(
      R"({"__metadata__":{"format":"pt"},
          "a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
          "b":{"dtype":"I64","shape":[],"data_offsets":[12,20]},
          "c":{"dtype":"F32","shape":[0,4],"data_offsets":[20,20]}}   )",
      "abcdefghijkl01234567");
  const auto file = parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 3U);
  const Safetensors::Tensor& a = file->tensors().at("a");
  EXPECT_EQ(a.dtype, DType::kBF16);
  EXPECT_EQ(a.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(a.data.data(), "abcdefghijkl", 12), 0);
  EXPECT_EQ(file->tensors().at("b").dtype, std::nullopt);
  EXPECT_EQ(file->tensors().at("b").stored_type, "I64");
  EXPECT_TRUE(file->tensors().at("c").data.empty());
}

struct Mutation {
  const char* header;
  std::size_t data_size;
  const char* problem;
};

class SafetensorsMutation : public testing::TestWithParam<Mutation> {};

TEST_P(SafetensorsMutation, IsRefusedWithFileAndField) {
  const auto file =
      parse(test::safetensors(GetParam().header, std::string(GetParam().data_size, 'x')));
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().message, std::string("w.safetensors: ") + GetParam().problem);
}

constexpr Mutation kMutations[] = {
    {"", 0,
     "header: not valid JSON: parse error at line 1, column 1: syntax error while parsing value - "
     "unexpected end of input; expected '[', '{', or a literal"},
    {"[]", 0, "header: expected a JSON object"},
    {R"({"a":7})", 0, "tensor 'a': expected an object with dtype, shape and data_offsets"},
    {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "tensor 'a': dtype: expected a string"},
    {R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4,
     "tensor 'a': dtype: 'F99' is unknown"},
    {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4,
     "tensor 'a': shape: expected a list of at most 16 sizes with a product below 2^56"},
    {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
     "tensor 'a': shape: expected a list of at most 16 sizes with a product below 2^56"},
    {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4,
     "tensor 'a': shape: expected a list of at most 16 sizes with a product below 2^56"},
    {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4,
     "tensor 'a': shape: expected a list of at most 16 sizes with a product below 2^56"},
    {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4,
     "tensor 'a': shape: expected a list of at most 16 sizes with a product below 2^56"},
    {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4,
     "tensor 'a': shape: expected a list of at most 16 sizes with a product below 2^56"},
    {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "tensor 'a': data_offsets: expected [begin, end]"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4,
     "tensor 'a': data_offsets: expected [begin, end]"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4,
     "tensor 'a': data_offsets: expected [begin, end]"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
     "tensor 'a': data_offsets: [4, 0] is outside the file's 4 bytes of tensor data (truncated "
     "file?)"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
     "tensor 'a': data_offsets: [0, 8] is outside the file's 4 bytes of tensor data (truncated "
     "file?)"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]}})",
     4,
     "tensor 'a': data_offsets: [18446744073709551612, 18446744073709551615] is outside the file's "
     "4 bytes of tensor data (truncated file?)"},
    {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
     "tensor 'a': data_offsets: [0, 8] is 8 bytes, but F32 [3] needs 12"},
    {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2,
     "tensor 'a': shape: F4 [3] is no whole number of bytes"},
    {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
         "b":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})",
     6, "tensor 'b': data_offsets: begins at 2, overlaps: the tensor before it ends at 4"},
    {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
         "b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})",
     4, "tensor 'b': data_offsets: begins at 0, overlaps: the tensor before it ends at 4"},
    {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
         "b":{"dtype":"F16","shape":[1],"data_offsets":[6,8]}})",
     8, "tensor 'b': data_offsets: begins at 6, leaves a gap: the tensor before it ends at 4"},
    {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 7,
     "3 bytes after the last tensor belong to none"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
         "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2, "header: the key 'a' occurs twice in one object"},
    {R"({"a\nb":0})", 0, "tensor 'a\\nb': expected an object with dtype, shape and data_offsets"},
};

INSTANTIATE_TEST_SUITE_P(Table, SafetensorsMutation, testing::ValuesIn(kMutations));

TEST(Safetensors, HeaderLengthIsChecked) {
  EXPECT_EQ(parse("1234567").error().message,
            "w.safetensors: shorter than the 8 bytes of the header length");
  EXPECT_EQ(parse(test::raw(std::uint64_t{3}) + "{}").error().message,
            "w.safetensors: header length: 3 bytes, but the file has only 2 more");
  EXPECT_EQ(parse(test::raw(~std::uint64_t{0}) + "{}").error().message,
            "w.safetensors: header length: 18446744073709551615 bytes, more than the limit of "
            "100000000");
  EXPECT_EQ(parse(test::safetensors(std::string(100'000, '['), "")).error().message,
            "w.safetensors: header: nested deeper than 64 levels");
}

// Whatever is accepted must have every tensor inside the bytes, none twice used.
void check_extents(const Safetensors& file, std::string_view bytes) {
  std::size_t used = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto* begin = reinterpret_cast<const char*>(tensor.data.data());
    if (!tensor.data.empty()) {
      EXPECT_GE(begin, bytes.data());
      EXPECT_LE(begin + tensor.data.size(), bytes.data() + bytes.size());
    }
    used += tensor.data.size();
  }
  EXPECT_LE(used, bytes.size());
}

TEST(Safetensors, TruncationIsAlwaysAnError) {
  const std::string whole = test::tiny_safetensors(test::tiny_config()).bytes();
  ASSERT_TRUE(parse(whole));
  Rng rng(11);
  for (int i = 0; i < 2000; ++i) {
    // A copy of exactly that size, so that a sanitizer sees any read past it.
    const std::string cut(whole.data(), rng.below(whole.size()));
    const auto file = parse(cut);
    ASSERT_FALSE(file) << cut.size();
    EXPECT_TRUE(file.error().message.starts_with("w.safetensors: "));
  }
}

TEST(Safetensors, FlippedBitsNeverEscapeTheFile) {
  const test::SafetensorsText text = test::tiny_safetensors(test::tiny_config());
  const std::string whole = text.bytes();
  Rng rng(12);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = whole;
    for (std::uint64_t flips = 1 + rng.below(3); flips > 0; --flips) {
      char& c = bytes[rng.below(8 + text.header.size())];
      c = static_cast<char>(c ^ (1 << rng.below(8)));
    }
    const auto file = parse(bytes);
    if (file) {
      check_extents(*file, bytes);
    } else {
      ++refused;
      EXPECT_TRUE(is_valid_utf8(file.error().message));
      EXPECT_EQ(file.error().message.find('\n'), std::string::npos) << file.error().message;
    }
  }
  EXPECT_GT(refused, 2000);
}

}  // namespace
}  // namespace pd::model
