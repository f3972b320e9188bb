#include "cli/tokenize_command.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace pd::cli {
namespace {

using nlohmann::json;

struct Run {
  int status;
  std::vector<json> lines;
};

Run run(const std::string& input) {
  const auto tokenizer =
      model::Tokenizer::from_huggingface(std::string(PD_SOURCE_DIR) + "/assets/models/stories260K");
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  std::istringstream in(input);
  std::ostringstream out;
  Run result{run_tokenize(in, out, *tokenizer), {}};
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) result.lines.push_back(json::parse(line));
  return result;
}

TEST(TokenizeCommand, TextBecomesIdsAndBack) {
  const auto [status, lines] =
      run("{\"text\": \"Once upon a time\"}\n"
          "{\"text\": \"Once upon a time\", \"add_special_tokens\": false}\n");
  EXPECT_EQ(status, 0);
  ASSERT_EQ(lines.size(), 2u);
  const auto with = lines[0]["ids"].get<std::vector<int>>();
  const auto without = lines[1]["ids"].get<std::vector<int>>();
  ASSERT_FALSE(without.empty());
  EXPECT_EQ(with[0], 1);
  EXPECT_EQ(std::vector<int>(with.begin() + 1, with.end()), without);

  const auto back = run(json{{"ids", with}}.dump() + "\n" +
                        json{{"ids", with}, {"skip_special_tokens", true}}.dump() + "\n");
  EXPECT_EQ(back.status, 0);
  EXPECT_EQ(back.lines[0]["text"], "<s> Once upon a time");
  EXPECT_EQ(back.lines[1]["text"], "Once upon a time");
}

TEST(TokenizeCommand, SpecialTokensInTheTextStayTextOnRequest) {
  const auto [status, lines] =
      run("{\"text\": \"</s>\", \"add_special_tokens\": false}\n"
          "{\"text\": \"</s>\", \"add_special_tokens\": false, \"parse_special\": false}\n");
  EXPECT_EQ(status, 0);
  EXPECT_EQ(lines[0]["ids"], json::array({2}));
  EXPECT_GT(lines[1]["ids"].size(), 1u);
}

TEST(TokenizeCommand, ABadLineIsAnsweredWithItsNumberAndTheRestGoesOn) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{", "JSON"},
      {"[]", "\"text\" or \"ids\""},
      {R"({"text": 7})", "\"text\" must be a string"},
      {R"({"text": "a", "ids": []})", "unknown key"},
      {R"({"text": "a", "add_special_tokens": 1})", "add_special_tokens"},
      {R"({"ids": "a"})", "must be an array"},
      {R"({"ids": [1, -1]})", "\"ids\"[1]"},
      {R"({"ids": [1.5]})", "\"ids\"[0]"},
      {R"({"ids": [99999999999]})", "\"ids\"[0]"},
      {R"({"ids": [100000]})", "100000"},
      {"{\"text\": \"\xFF\"}", "line"},
  };
  std::string input = "\n";  // a blank line counts, and has no answer
  for (const auto& [line, what] : bad) input += line + "\n";
  const auto [status, lines] = run(input + "{\"text\": \"\", \"add_special_tokens\": false}");
  EXPECT_EQ(status, 1);
  ASSERT_EQ(lines.size(), bad.size() + 1);
  for (std::size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(lines[i]["line"], i + 2) << bad[i].first;
    EXPECT_NE(lines[i]["error"].get<std::string>().find(bad[i].second), std::string::npos)
        << lines[i];
  }
  EXPECT_EQ(lines.back()["ids"], json::array());
}

}  // namespace
}  // namespace pd::cli
