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

TEST(RequestEntry, SaysWhereItIsOrWhereItEnded) {
  RequestEntry one = entry();
  one.record.phase = RequestPhase::kJoining;
  one.status = 0;
  EXPECT_EQ(to_json(one)["stage"], "join");
  one.status = 504;
  EXPECT_EQ(to_json(one)["stage"], "join");
  one.status = 200;
  one.error_code = "deadline_exceeded";
  EXPECT_EQ(to_json(one)["stage"], "join") << "an error event";
  one.preparing = true;
  EXPECT_EQ(to_json(one)["stage"], "prepare");
}

TEST(RequestEntry, StagesSumToTheWholeWhateverTheClocksSaid) {
  RequestEntry one = entry();
  one.total = milliseconds(190);  // read before the last stage ended
  one.prepare = std::chrono::nanoseconds(1'400'600);
  one.record.in_phase[static_cast<std::size_t>(RequestPhase::kPrefilling)] =
      std::chrono::nanoseconds(50'000'700);
  const auto json = nlohmann::json::parse(to_json(one).dump());
  double sum = 0;
  for (const auto& [stage, ms] : json["stages_ms"].items()) {
    EXPECT_GE(ms.get<double>(), 0) << stage;
    sum += ms.get<double>();
  }
  EXPECT_NEAR(sum, json["total_ms"].get<double>(), 1e-9);
}

class Fake : public OpenRequest {
 public:
  explicit Fake(std::string id, std::string client_id = "")
      : id_(std::move(id)), client_id_(std::move(client_id)) {}
  RequestEntry entry() const override { return {.id = id_, .client_id = client_id_}; }
  const std::string& client_id() const override { return client_id_; }
  void cancel() override {}

 private:
  std::string id_, client_id_;
};

void enter(RequestBook& book, const std::string& id, const std::string& client_id = "") {
  book.enter(id, std::make_shared<Fake>(id, client_id));
}

// As an operator's question gathers them.
std::vector<RequestEntry> ask(const std::vector<const RequestBook*>& books,
                              const std::string& name) {
  std::vector<RequestEntry> out;
  for (const RequestBook* book : books) {
    for (const auto& open : book->named(name)) out.push_back(open->entry());
  }
  return out;
}

TEST(RequestBook, HasWhatIsOpenAndHandsOverWhatEnds) {
  std::vector<std::string> ended;
  RequestBook book([&](const RequestEntry& e) { ended.push_back(e.id); });
  enter(book, "a", "theirs");
  enter(book, "b");
  EXPECT_NE(book.find("a"), nullptr);
  EXPECT_EQ(book.find("theirs"), nullptr);
  EXPECT_EQ(book.named("theirs").size(), 1u);
  EXPECT_TRUE(book.named("nobody's").empty());
  EXPECT_TRUE(book.named("").empty()) << "b has none";
  EXPECT_EQ(book.all().size(), 2u);
  book.leave({.id = "a"});
  EXPECT_EQ(book.find("a"), nullptr);
  EXPECT_EQ(book.all().size(), 1u);
  book.leave({.id = ""});  // refused before it was open
  EXPECT_EQ(ended, (std::vector<std::string>{"a", ""}));
}

TEST(RequestBook, AnOwnIdComesBeforeAClientsInWhateverBookItIs) {
  RequestBook first([](const RequestEntry&) {}), second([](const RequestEntry&) {});
  enter(first, "cmpl-1", "cmpl-2");
  enter(second, "cmpl-2", "mine");
  for (const auto& books : {std::vector<const RequestBook*>{&first, &second}, {&second, &first}}) {
    const auto meant = meant_by("cmpl-2", ask(books, "cmpl-2"));
    ASSERT_TRUE(meant);
    EXPECT_EQ(meant->id, "cmpl-2");
  }
  EXPECT_EQ(meant_by("mine", ask({&first, &second}, "mine"))->id, "cmpl-2");
}

TEST(RequestBook, AClientsIdThatSeveralHaveMeansNoneOfThem) {
  RequestBook first([](const RequestEntry&) {}), second([](const RequestEntry&) {});
  enter(first, "cmpl-1", "theirs");
  enter(first, "cmpl-3", "theirs");
  enter(second, "cmpl-2", "theirs");
  const auto meant = meant_by("theirs", ask({&first, &second}, "theirs"));
  ASSERT_FALSE(meant);
  EXPECT_EQ(meant.error().status, 409);
  EXPECT_NE(meant.error().message.find("cmpl-1, cmpl-3, cmpl-2"), std::string::npos);
  const auto none = meant_by("nobody's", ask({&first, &second}, "nobody's"));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().status, 404);
}

TEST(RequestBook, AMessageNamesNotEveryOneOfThousands) {
  const std::vector<RequestEntry> many(1000, RequestEntry{.id = "cmpl-1"});
  const auto meant = meant_by("theirs", many);
  ASSERT_FALSE(meant);
  EXPECT_LT(meant.error().message.size(), 400u);
  EXPECT_NE(meant.error().message.find("and 980 more"), std::string::npos);
}

}  // namespace
}  // namespace pd::gateway
