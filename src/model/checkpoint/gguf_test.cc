#include "model/checkpoint/gguf.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "base/text.h"
#include "model/checkpoint/gguf_config.h"
#include "model/checkpoint/test_files.h"

namespace pd::model {
namespace {

using test::GgufFile;

Result<std::unique_ptr<Gguf>> parse(std::string_view bytes) {
  return Gguf::parse(test::as_bytes(bytes), "m.gguf");
}

GgufFile two_tensors() {
  GgufFile file;
  file.values.push_back(GgufFile::u32("some.number", 7));
  file.tensors.push_back({"a", {4, 2}, 0, std::string(32, 'a')});
  file.tensors.push_back({"b", {32}, 8, std::string(34, 'b')});
  return file;
}

template <typename T>
std::string value(std::string_view key, std::uint32_t type, T number) {
  return GgufFile::text(key) + test::raw(type) + test::raw(number);
}

std::string array(std::string_view key, std::uint32_t element, std::uint64_t count,
                  const std::string& elements) {
  return GgufFile::text(key) + test::raw(std::uint32_t{9}) + test::raw(element) + test::raw(count) +
         elements;
}

TEST(Gguf, ReadsEveryKindOfValue) {
  GgufFile file;
  file.values = {value<std::uint8_t>("u8", 0, 200),
                 value<std::int8_t>("i8", 1, -3),
                 value<std::uint16_t>("u16", 2, 60000),
                 value<std::int16_t>("i16", 3, -300),
                 value<std::uint32_t>("u32", 4, 4000000000U),
                 value<std::int32_t>("i32", 5, -70000),
                 value<float>("f32", 6, 0.5F),
                 value<std::uint8_t>("yes", 7, 1),
                 GgufFile::str("text", "h\xC3\xA9llo"),
                 value<std::uint64_t>("u64", 10, 1ULL << 62),
                 value<std::int64_t>("i64", 11, -(1LL << 40)),
                 value<double>("f64", 12, 1e300),
                 array("ints", 5, 2, test::raw(std::int32_t{-1}) + test::raw(std::int32_t{2})),
                 array("bools", 7, 2, std::string("\1\0", 2)),
                 array("floats", 6, 1, test::raw(1.25F)),
                 array("texts", 8, 2, GgufFile::text("x") + GgufFile::text("")),
                 array("none", 8, 0, "")};
  const auto gguf = parse(file.bytes());
  ASSERT_TRUE(gguf) << gguf.error().message;
  const Gguf& g = **gguf;
  EXPECT_EQ(g.integer("u8"), 200);
  EXPECT_EQ(g.integer("i8"), -3);
  EXPECT_EQ(g.integer("u16"), 60000);
  EXPECT_EQ(g.integer("i16"), -300);
  EXPECT_EQ(g.integer("u32"), 4000000000);
  EXPECT_EQ(g.integer("i32"), -70000);
  EXPECT_EQ(g.number("f32"), 0.5);
  EXPECT_EQ(g.number("i8"), -3.0);
  EXPECT_EQ(g.boolean("yes"), true);
  EXPECT_EQ(*g.string("text"), "h\xC3\xA9llo");
  EXPECT_EQ(g.integer("u64"), 1LL << 62);
  EXPECT_EQ(g.integer("i64"), -(1LL << 40));
  EXPECT_EQ(g.number("f64"), 1e300);
  EXPECT_EQ(*g.integers("ints"), (std::vector<std::int64_t>{-1, 2}));
  EXPECT_EQ(*g.integers("bools"), (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(*g.numbers("floats"), std::vector<double>{1.25});
  EXPECT_EQ(*g.strings("texts"), (std::vector<std::string>{"x", ""}));
  EXPECT_TRUE(g.strings("none")->empty());
  // Asked for as another type, or absent.
  EXPECT_EQ(g.integer("f32"), std::nullopt);
  EXPECT_EQ(g.boolean("u8"), std::nullopt);
  EXPECT_EQ(g.string("u8"), nullptr);
  EXPECT_EQ(g.find("nothing"), nullptr);
}

TEST(Gguf, ShapesAreRowMajorAndDataIsAligned) {
  for (const std::uint32_t version : {2U, 3U}) {
    GgufFile file = two_tensors();
    file.version = version;
    const std::string bytes = file.bytes();
    const auto gguf = parse(bytes);
    ASSERT_TRUE(gguf) << gguf.error().message;
    const Gguf::Tensor& a = (*gguf)->tensors().at("a");
    EXPECT_EQ(a.info.shape, (std::vector<std::int64_t>{2, 4}));
    EXPECT_EQ(std::memcmp(a.data.data(), std::string(32, 'a').data(), 32), 0);
    const Gguf::Tensor& b = (*gguf)->tensors().at("b");
    EXPECT_EQ(b.info.dtype, DType::kQ8_0);
    EXPECT_EQ(b.data.size(), 34U);
    EXPECT_EQ(b.data.front(), std::byte{'b'});
  }
}

TEST(Gguf, HonoursTheAlignmentThatTheFileStates) {
  GgufFile file = two_tensors();
  file.alignment = 64;
  file.values.push_back(GgufFile::u32("general.alignment", 64));
  const std::string bytes = file.bytes();
  const auto gguf = parse(bytes);
  ASSERT_TRUE(gguf) << gguf.error().message;
  EXPECT_EQ((*gguf)->tensors().at("b").data.front(), std::byte{'b'});
}

struct Mutation {
  const char* name;
  void (*mutate)(GgufFile&);
  const char* problem;
};

class GgufMutation : public testing::TestWithParam<Mutation> {};

TEST_P(GgufMutation, IsRefusedWithFileAndField) {
  GgufFile file = two_tensors();
  GetParam().mutate(file);
  const auto gguf = parse(file.bytes());
  ASSERT_FALSE(gguf);
  EXPECT_EQ(gguf.error().message, std::string("m.gguf: ") + GetParam().problem);
}

const Mutation kMutations[] = {
    {"Magic", [](GgufFile& f) { f.magic = 0x46554746; },
     "not a GGUF file (the magic is missing); a Hugging Face model is opened by its folder"},
    {"Version1", [](GgufFile& f) { f.version = 1; },
     "version: 1 is not supported (2 and 3 are); convert the model again with a current converter"},
    {"BigEndian", [](GgufFile& f) { f.version = 0x03000000; },
     "version: the file is big-endian, which is not supported"},
    {"HugeTensorCount", [](GgufFile& f) { f.tensor_count = ~std::uint64_t{0}; },
     "tensor_count: 18446744073709551615 tensors do not fit in the file"},
    {"HugeValueCount", [](GgufFile& f) { f.value_count = std::uint64_t{1} << 60; },
     "metadata_kv_count: 1152921504606846976 values do not fit in the file"},
    {"OneValueTooMany", [](GgufFile& f) { f.value_count = 2; },
     "name of tensor 0: runs past the end of the file (truncated, or a length that lies)"},
    {"DuplicateKey", [](GgufFile& f) { f.values.push_back(GgufFile::u32("some.number", 7)); },
     "metadata 'some.number': occurs twice"},
    {"HugeKey",
     [](GgufFile& f) { f.values.push_back(test::raw(~std::uint64_t{0}) + std::string(20, 'k')); },
     "key of metadata value 1: runs past the end of the file (truncated, or a length that lies)"},
    {"UnknownValueType", [](GgufFile& f) { f.values.push_back(value<int>("x", 99, 1)); },
     "metadata 'x': unknown value type 99"},
    {"BooleanTwo", [](GgufFile& f) { f.values.push_back(value<std::uint8_t>("x", 7, 2)); },
     "metadata 'x': the value is out of range or runs past the end of the file"},
    {"Uint64OverInt64",
     [](GgufFile& f) { f.values.push_back(value<std::uint64_t>("x", 10, ~std::uint64_t{0})); },
     "metadata 'x': the value is out of range or runs past the end of the file"},
    {"HugeString",
     [](GgufFile& f) { f.values.push_back(value<std::uint64_t>("x", 8, std::uint64_t{1} << 63)); },
     "metadata 'x': the value is out of range or runs past the end of the file"},
    {"HugeArray",
     [](GgufFile& f) { f.values.push_back(array("x", 4, std::uint64_t{1} << 62, "")); },
     "metadata 'x': an array of 4611686018427387904 elements; 16777216 are allowed in all arrays "
     "together"},
    {"LongArray", [](GgufFile& f) { f.values.push_back(array("x", 12, 1000, "")); },
     "metadata 'x': 1000 elements run past the end of the file"},
    {"LongStringArray", [](GgufFile& f) { f.values.push_back(array("x", 8, 1000, "")); },
     "metadata 'x': 1000 elements run past the end of the file"},
    {"ArrayElementOutOfRange",
     [](GgufFile& f) { f.values.push_back(array("x", 10, 1, test::raw(~std::uint64_t{0}))); },
     "metadata 'x': element 0 is out of range"},
    {"StringInArrayTooLong",
     [](GgufFile& f) { f.values.push_back(array("x", 8, 1, test::raw(~std::uint64_t{0}))); },
     "metadata 'x': element 0 runs past the end of the file"},
    {"ArrayOfArrays", [](GgufFile& f) { f.values.push_back(array("x", 9, 1, "12345678")); },
     "metadata 'x': arrays inside arrays are not supported"},
    {"ArrayOfUnknown", [](GgufFile& f) { f.values.push_back(array("x", 77, 1, "12345678")); },
     "metadata 'x': unknown element type 77"},
    {"AlignmentNoPowerOfTwo",
     [](GgufFile& f) { f.values.push_back(GgufFile::u32("general.alignment", 48)); },
     "metadata 'general.alignment': expected a power of two from 8 to 1048576"},
    {"AlignmentZero",
     [](GgufFile& f) { f.values.push_back(GgufFile::u32("general.alignment", 0)); },
     "metadata 'general.alignment': expected a power of two from 8 to 1048576"},
    {"AlignmentText",
     [](GgufFile& f) { f.values.push_back(GgufFile::str("general.alignment", "32")); },
     "metadata 'general.alignment': expected a power of two from 8 to 1048576"},
    {"UnsupportedType", [](GgufFile& f) { f.tensors[1].type = 12; },
     "tensor 'b': type Q4_K (12) is not supported; use a file with F32, F16, BF16, Q8_0, Q4_0 or "
     "Q4_1"},
    {"UnknownTensorType", [](GgufFile& f) { f.tensors[1].type = 4000; },
     "tensor 'b': type unknown (4000) is not supported; use a file with F32, F16, BF16, Q8_0, Q4_0 "
     "or Q4_1"},
    {"NoDimensions", [](GgufFile& f) { f.tensors[0].dims = {}; },
     "tensor 'a': 0 dimensions, expected 1 to 4"},
    {"FiveDimensions", [](GgufFile& f) { f.tensors[0].dims = {1, 1, 1, 1, 8}; },
     "tensor 'a': 5 dimensions, expected 1 to 4"},
    {"ZeroDimension", [](GgufFile& f) { f.tensors[0].dims = {4, 0}; },
     "tensor 'a': dimension 1 is 0"},
    {"HugeDimension", [](GgufFile& f) { f.tensors[0].dims = {~std::uint64_t{0}}; },
     "tensor 'a': dimension 0 is 18446744073709551615"},
    {"ProductOverflows",
     [](GgufFile& f) { f.tensors[0].dims = {std::uint64_t{1} << 32, std::uint64_t{1} << 32}; },
     "tensor 'a': shape [4294967296, 4294967296] is impossible for F32"},
    {"NoWholeBlock", [](GgufFile& f) { f.tensors[1].dims = {31}; },
     "tensor 'b': shape [31] is impossible for Q8_0"},
    {"Misaligned", [](GgufFile& f) { f.tensors[1].offset = 33; },
     "tensor 'b': offset 33 is not a multiple of the alignment 32"},
    {"PastTheEnd", [](GgufFile& f) { f.tensors[1].offset = 96; },
     "tensor 'b': offset 96 and size 34 run past the end of the file (96 bytes of tensor data)"},
    {"HugeOffset", [](GgufFile& f) { f.tensors[1].offset = ~std::uint64_t{31}; },
     "tensor 'b': offset 18446744073709551584 and size 34 run past the end of the file (96 bytes "
     "of tensor data)"},
    {"Overlap", [](GgufFile& f) { f.tensors[1].offset = 0; }, "tensor 'b': overlaps tensor 'a'"},
    {"DuplicateTensor", [](GgufFile& f) { f.tensors[1].name = "a"; }, "tensor 'a': occurs twice"},
    {"HugeName", [](GgufFile& f) { f.tensors[1].name = std::string(2000, 'n'); },
     "name of tensor 1: runs past the end of the file (truncated, or a length that lies)"},
};

INSTANTIATE_TEST_SUITE_P(Table, GgufMutation, testing::ValuesIn(kMutations),
                         [](const auto& row) { return std::string(row.param.name); });

// Parses, and where that succeeds reads the configuration and every element of every tensor.
bool consume(std::string_view bytes) {
  const auto gguf = parse(bytes);
  if (!gguf) {
    EXPECT_TRUE(gguf.error().message.starts_with("m.gguf: "));
    EXPECT_TRUE(is_valid_utf8(gguf.error().message));
    EXPECT_EQ(gguf.error().message.find('\n'), std::string::npos);
    return false;
  }
  for (const auto& [name, tensor] : (*gguf)->tensors()) {
    std::vector<float> out(static_cast<std::size_t>(test::count_of(tensor.info.shape)));
    widen(tensor.info.dtype, tensor.data, out);
  }
  const auto config = config_from_gguf(**gguf);
  return config && bind_weights(*config, WeightNames::kGguf, directory_of(**gguf), "m.gguf");
}

TEST(Gguf, TruncationIsAlwaysAnError) {
  const std::string whole = test::tiny_gguf(test::tiny_config()).bytes();
  ASSERT_TRUE(consume(whole));
  Rng rng(21);
  for (int i = 0; i < 2000; ++i) {
    const std::string cut(whole.data(), rng.below(whole.size() - 32));  // the last 32: padding
    EXPECT_FALSE(consume(cut)) << cut.size();
  }
}

TEST(Gguf, FlippedBitsNeverEscapeTheFile) {
  const GgufFile file = test::tiny_gguf(test::tiny_config());
  const std::string whole = file.bytes();
  const std::size_t head = file.head().size();
  Rng rng(22);
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string bytes = whole;
    for (std::uint64_t flips = 1 + rng.below(3); flips > 0; --flips) {
      char& c = bytes[rng.below(head)];
      c = static_cast<char>(c ^ (1 << rng.below(8)));
    }
    refused += consume(bytes) ? 0 : 1;
  }
  EXPECT_GT(refused, 3500);
}

}  // namespace
}  // namespace pd::model
