#include "protocol/chat_messages.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace pd::protocol {
namespace {

// The field to blame.
std::string blamed(std::string_view messages) {
  const auto r = parse_chat_request(fmt::format(R"({{"messages":{}}})", messages), ApiLimits{});
  return r ? "none" : r.error().param;
}
std::string blamed_in(std::string_view fields) {
  return blamed(fmt::format(R"([{{"role":"user","content":"hi"}},{{{}}}])", fields));
}
std::string blamed_in_calls(std::string_view calls) {
  return blamed_in(fmt::format(R"("role":"assistant","tool_calls":{})", calls));
}

TEST(ChatMessages, AreAListOfObjectsWithRoleAndContent) {
  EXPECT_EQ(blamed("[]"), "messages");
  EXPECT_EQ(blamed("\"hi\""), "messages");
  EXPECT_EQ(blamed("[1]"), "messages[0].role");
  EXPECT_EQ(blamed(R"([{"role":"user"}])"), "messages[0].content");
  EXPECT_EQ(blamed(R"([{"role":"user","content":3}])"), "messages[0].content");
  EXPECT_EQ(blamed(R"([{"role":"user","content":[]}])"), "messages[0].content");
  EXPECT_EQ(blamed(R"([{"role":"user","content":[{"type":"image_url"}]}])"), "messages[0].content");
  EXPECT_EQ(blamed((std::string(100, '[') + std::string(100, ']')).c_str()), "messages");
}

TEST(ChatMessages, HaveTheRolesOfTheApi) {
  for (const char* role : {"developer", "system", "user", "assistant"})
    EXPECT_EQ(blamed_in(fmt::format(R"("role":"{}","content":"x","name":"n")", role)), "none");
  for (const char* role : {R"("")", R"("king")", R"("User")", "5", "null", R"(["user"])"}) {
    EXPECT_EQ(blamed_in(fmt::format(R"("role":{},"content":"x")", role)), "messages[1].role");
  }
}

TEST(ChatMessages, HaveNamesThatAreStrings) {
  EXPECT_EQ(blamed_in(R"("role":"user","content":"x","name":5)"), "messages[1].name");
  EXPECT_EQ(blamed_in(R"("role":"user","content":"x","name":null)"), "none");
  EXPECT_EQ(blamed_in(R"("role":"function","content":"x")"), "messages[1].name");
  EXPECT_EQ(blamed_in(R"("role":"function","name":"f")"), "messages[1].content");
  EXPECT_EQ(blamed_in(R"("role":"function","name":"f","content":null)"), "none");
  EXPECT_EQ(blamed_in(R"("role":"function","name":"f","content":[{"type":"text","text":"a"}])"),
            "messages[1].content");
}

TEST(ChatMessages, OfToolsSayWhichCallTheyAnswer) {
  EXPECT_EQ(blamed_in(R"("role":"tool","content":"x","tool_call_id":"c")"), "none");
  EXPECT_EQ(blamed_in(R"("role":"tool","content":"x")"), "messages[1].tool_call_id");
  EXPECT_EQ(blamed_in(R"("role":"tool","content":"x","tool_call_id":7)"),
            "messages[1].tool_call_id");
  EXPECT_EQ(blamed_in(R"("role":"tool","tool_call_id":"c")"), "messages[1].content");
}

TEST(ChatMessages, OfAssistantsMayBeCallsAlone) {
  constexpr std::string_view kCall =
      R"([{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}])";
  EXPECT_EQ(blamed_in_calls(kCall), "none");
  EXPECT_EQ(blamed_in_calls(
                R"([{"id":"c","type":"custom","custom":{"name":"f","input":"x"}}],"content":null)"),
            "none");
  EXPECT_EQ(blamed_in(R"("role":"assistant","function_call":{"name":"f","arguments":"{}"})"),
            "none");
  EXPECT_EQ(blamed_in(R"("role":"assistant","content":"x","tool_calls":null,"refusal":null)"),
            "none");
  EXPECT_EQ(blamed_in(R"("role":"assistant")"), "messages[1].content");
  EXPECT_EQ(blamed_in(R"("role":"assistant","content":null,"tool_calls":null)"),
            "messages[1].content");
  EXPECT_EQ(blamed_in(fmt::format(R"("role":"user","tool_calls":{})", kCall)),
            "messages[1].content");
}

TEST(ChatMessages, NameWhatIsWrongWithACall) {
  const std::string at = "messages[1].tool_calls";
  EXPECT_EQ(blamed_in_calls(R"("f")"), at);
  EXPECT_EQ(blamed_in_calls("[5]"), at + "[0]");
  EXPECT_EQ(blamed_in_calls(R"([{"type":"function"}])"), at + "[0].id");
  EXPECT_EQ(blamed_in_calls(R"([{"id":"c","type":"magic"}])"), at + "[0].type");
  EXPECT_EQ(blamed_in_calls(R"([{"id":"c","type":"function"}])"), at + "[0].function");
  EXPECT_EQ(
      blamed_in_calls(R"([{"id":"c","type":"function","function":{"name":"f","arguments":{}}}])"),
      at + "[0].function.arguments");
  EXPECT_EQ(blamed_in_calls(R"([{"id":"c","type":"custom","custom":{"name":"f"}}])"),
            at + "[0].custom.input");
  EXPECT_EQ(blamed_in(R"("role":"assistant","content":"x","function_call":{"name":"f"})"),
            "messages[1].function_call.arguments");
  EXPECT_EQ(blamed_in(R"("role":"assistant","content":"x","refusal":1)"), "messages[1].refusal");
  EXPECT_EQ(blamed_in(R"("role":"assistant","content":"x","audio":{"id":"a"})"),
            "messages[1].audio");
}

TEST(ChatMessages, GoToTheTemplateWithAllTheyHave) {
  const auto r = parse_chat_request(
      R"({"messages":[{"role":"user","name":"n","mood":3,"content":[)"
      R"({"type":"text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},)"
      R"({"type":"text","text":"b"}]}]})",
      ApiLimits{});
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->messages[0],
            nlohmann::ordered_json::parse(R"({"role":"user","name":"n","mood":3,"content":"ab"})"));
}

}  // namespace
}  // namespace pd::protocol
