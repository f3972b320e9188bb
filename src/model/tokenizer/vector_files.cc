#include "model/tokenizer/vector_files.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <nlohmann/json.hpp>
#include <span>

#include "base/check.h"
#include "base/text.h"

namespace pd::model::tokenizing {

std::string read_gzip(const std::string& path) {
  const std::string whole = std::string(PD_SOURCE_DIR) + "/" + path;
  gzFile file = gzopen(whole.c_str(), "rb");
  if (file == nullptr) ADD_FAILURE() << "cannot open " << whole;
  CHECK(file != nullptr);
  std::string out;
  std::array<char, 1 << 16> buffer;
  int count = 0;
  while ((count = gzread(file, buffer.data(), buffer.size())) > 0) {
    out.append(buffer.data(), static_cast<std::size_t>(count));
  }
  CHECK(count == 0);
  gzclose(file);
  return out;
}

std::vector<std::string> read_gzip_lines(const std::string& path) {
  const std::string all = read_gzip(path);
  std::vector<std::string> out;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = all.find('\n', at);
    out.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::uint64_t fnv1a(std::string_view bytes) {
  std::uint64_t out = 0xCBF29CE484222325;
  for (const char byte : bytes) out = (out ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  return out;
}

std::uint64_t fnv1a(const std::vector<TokenId>& ids) {
  std::string bytes;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(id >> shift));
  }
  return fnv1a(bytes);
}

const std::vector<TestText>& test_texts() {
  static const std::vector<TestText> kTexts = [] {
    std::vector<TestText> out;
    for (const std::string& line : read_gzip_lines("tests/data/tokenizer/texts.jsonl.gz")) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("text")) {
        out.push_back({json["text"], false});
        continue;
      }
      std::string text;
      for (const auto& part : json["recipe"]) {
        for (int i = 0; i < part[1].get<int>(); ++i) text += part[0].get_ref<const std::string&>();
      }
      out.push_back({std::move(text), true});
    }
    return out;
  }();
  return kTexts;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                     bool skip_special) {
  StreamDecoder stream(tokenizer, skip_special);
  std::string out;
  const auto take = [&](const std::string& piece) {
    EXPECT_TRUE(is_valid_utf8(piece)) << "a broken character behind: " << out;
    out += piece;
  };
  for (const TokenId id : ids) take(stream.append(id));
  take(stream.finish());
  return out;
}

}  // namespace pd::model::tokenizing
