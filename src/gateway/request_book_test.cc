#include "gateway/request_book.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pd::gateway {
namespace {

using policy::RequestPhase;
using std::chrono::milliseconds;

RequestEntry entry() {
  RequestEntry out;
  out.id = "cmpl-1";
  out.endpoint = "/v1/completions";
  out.peer = "127.0.0.1:5";
  out.unix_ms = 1767323045678;
  out.prepare = milliseconds(2);
  const auto spend = [&](RequestPhase phase, int ms) {
    out.record.in_phase[static_cast<std::size_t>(phase)] = milliseconds(ms);
  };
  spend(RequestPhase::kWaitingPrefill, 3);
  spend(RequestPhase::kPrefilling, 50);
  spend(RequestPhase::kJoining, 5);
  spend(RequestPhase::kDecoding, 140);
  out.total = milliseconds(201);
  out.first_token = milliseconds(55);
  out.status = 200;
  out.record.prefill = WorkerId(1);
  return out;
}

TEST(RequestEntry, IsOneLineWhoseStagesSumToTheWhole) {
  const auto json = nlohmann::json::parse(to_json(entry()).dump());
  EXPECT_EQ(json["time"], "2026-01-02T03:04:05.678Z");
  EXPECT_EQ(json["ttft_ms"], 55);
  EXPECT_EQ(json["prefill"], 1);
  EXPECT_FALSE(json.contains("decode"));
  EXPECT_FALSE(json.contains("tenant"));
  EXPECT_FALSE(json.contains("stage")) << "it has ended";
  EXPECT_FALSE(json.contains("error"));
  EXPECT_FALSE(json.contains("client_id"));
  double sum = 0;
  EXPECT_EQ(json["stages_ms"]["answer"], 1);
  for (const auto& [stage, ms] : json["stages_ms"].items()) sum += ms.get<double>();
  EXPECT_DOUBLE_EQ(sum, json["total_ms"].get<double>());
  EXPECT_EQ(to_json(entry()).dump().find('\n'), std::string::npos);
}

class Fake : public OpenRequest {
 public:
  RequestEntry entry() const override { return {.id = "a"}; }
  const std::string& client_id() const override { return theirs_; }
  void cancel() override {}

 private:
  std::string theirs_ = "theirs";
};

TEST(RequestBook, HasWhatIsOpenAndHandsOverWhatEnds) {
  std::vector<std::string> ended;
  RequestBook book([&](const RequestEntry& e) { ended.push_back(e.id); });
  book.enter("a", std::make_shared<Fake>());
  book.enter("b", std::make_shared<Fake>());
  EXPECT_NE(book.find("a"), nullptr);
  EXPECT_NE(book.find("theirs"), nullptr);
  EXPECT_EQ(book.find("nobody's"), nullptr);
  EXPECT_EQ(book.all().size(), 2u);
  book.leave({.id = "a"});
  EXPECT_EQ(book.find("a"), nullptr);
  EXPECT_EQ(book.all().size(), 1u);
  book.leave({.id = ""});  // refused before it was open
  EXPECT_EQ(ended, (std::vector<std::string>{"a", ""}));
}

}  // namespace
}  // namespace pd::gateway
