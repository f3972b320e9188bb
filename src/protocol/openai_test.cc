#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "protocol/openai_request.h"
#include "protocol/openai_response.h"

namespace pd::protocol {
namespace {

using testing::HasSubstr;

ApiResult<ApiRequest> chat(std::string_view rest) {
  return parse_chat_request(
      std::string(R"({"model":"m","messages":[{"role":"user","content":"hi"}])") +
          (rest.empty() ? "" : ",") + std::string(rest) + "}",
      ApiLimits{});
}
ApiResult<ApiRequest> completion(std::string_view fields) {
  return parse_completion_request(std::string("{\"model\":\"m\",") + std::string(fields) + "}",
                                  ApiLimits{});
}

TEST(OpenAiRequest, ChatDefaults) {
  const auto request = chat("");
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->model, "m");
  EXPECT_FALSE(request->stream);
  EXPECT_FALSE(request->max_tokens_given);
  EXPECT_EQ(request->sampling.temperature, 1.0F);
  EXPECT_EQ(request->messages[0]["content"], "hi");
}

TEST(OpenAiRequest, EveryServedFieldArrives) {
  const auto r = chat(
      R"("stream":true,"stream_options":{"include_usage":true},"n":2,"temperature":0.5,"top_p":0.9,
    "top_k":40,"min_p":0.05,"repetition_penalty":1.1,"presence_penalty":0.3,"frequency_penalty":-0.2,"seed":-7,
    "max_completion_tokens":20,"min_tokens":3,"ignore_eos":true,"stop":["a","b"],"stop_token_ids":[7],
    "logit_bias":{"5":-100},"logprobs":true,"top_logprobs":2,"user":"u","prompt_cache_retention":"24h","chat_template_kwargs":{"enable_thinking":false})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_TRUE(r->stream && r->include_usage && r->seed_given && r->max_tokens_given);
  EXPECT_EQ(r->n, 2);
  const SamplingParams& s = r->sampling;
  EXPECT_EQ(s.max_tokens, Tokens(20));
  EXPECT_EQ(s.stop_strings, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(s.stop_ids, std::vector<TokenId>{7});
  EXPECT_EQ(s.logit_bias[0].first, 5);
  EXPECT_EQ(s.logprobs, 2);
  EXPECT_EQ(s.seed, static_cast<std::uint64_t>(-7));
  EXPECT_EQ(r->template_options["enable_thinking"], false);
}

TEST(OpenAiRequest, TextPartsAreJoined) {
  const auto r = parse_chat_request(
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})",
      ApiLimits{});
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->messages[0]["content"], "ab");
}

TEST(OpenAiRequest, FieldsThatSteerTheHandoffAreDropped) {
  EXPECT_TRUE(chat(
      R"("kv_transfer_params":{"remote_host":"10.0.0.1"},"bootstrap_host":"x","bootstrap_room":1)"));
  // They are not looked into, but the whole body has a depth as well.
  const auto nested = [](std::size_t depth) {
    return chat(fmt::format(R"("kv_transfer_params":{}{})", std::string(depth, '['),
                            std::string(depth, ']')));
  };
  EXPECT_TRUE(nested(1000));
  ASSERT_FALSE(nested(1100));
  EXPECT_EQ(nested(1100).error().code, "invalid_json");
}

TEST(OpenAiRequest, AnIntegerIsOneHoweverItIsWritten) {
  const auto r = chat(R"("n":2.0,"max_tokens":1e1,"stop_token_ids":[7.0],"seed":-0.0)");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->n, 2);
  EXPECT_EQ(r->sampling.max_tokens, Tokens(10));
  EXPECT_EQ(r->sampling.stop_ids, std::vector<TokenId>{7});
  EXPECT_EQ(std::get<std::vector<TokenId>>(completion(R"("prompt":[1.0,2])")->prompts[0]),
            (std::vector<TokenId>{1, 2}));
}

TEST(OpenAiRequest, AnIntegerOfMoreThan64BitsDoesNotSpoilTheRest) {
  const auto r = chat(R"("seed":9223372036854775807,"user":"-99999999999999999999 \\" ,)"
                      R"("chat_template_kwargs":{"x":[-9223372036854775809,18446744073709551615,)"
                      R"(18446744073709551616,1.5e1]})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->sampling.seed, 9223372036854775807U);  // exact, as without the others
  const auto& x = r->template_options["x"];
  EXPECT_EQ(x[0], -0x1p63);
  EXPECT_EQ(x[1], 18446744073709551615U);
  EXPECT_EQ(x[2], 0x1p64);
  EXPECT_EQ(x[3], 15);
}

TEST(OpenAiRequest, WideIntegersMakeNoJsonOfWhatIsNone) {
  for (const char* body :
       {"{\"n\":00000000000000000000001}", "{\"n\":1-99999999999999999999}", "99999999999999999999",
        "{\"n\":99999999999999999999\"", "{\"n\":99999999999999999999x}", "{\"n\":1e999}",
        "{\"n\":-99999999999999999999-}", "{\"n\":+99999999999999999999}",
        "{\"n\":99999999999999999999,\"x\":\"\\"}) {
    const auto r = parse_chat_request(body, ApiLimits{});
    ASSERT_FALSE(r) << body;
    EXPECT_EQ(r.error().code, "invalid_json") << body;
  }
}

TEST(OpenAiRequest, PromptAndOutputFitIntoTheContext) {
  const auto fit = [](const ApiResult<ApiRequest>& request, std::int64_t prompt) {
    ApiRequest r = *request;
    const auto error = fit_context(r, Tokens(prompt), {Tokens(100)}, "messages");
    EXPECT_TRUE(!error || error->code == "context_length_exceeded");
    return error ? error->param : fmt::format("{}", r.sampling.max_tokens.value());
  };
  EXPECT_EQ(fit(chat(""), 10), "90");
  EXPECT_EQ(fit(chat(""), 99), "1");  // never past the context, however little it leaves
  EXPECT_EQ(fit(chat(""), 100), "messages");
  EXPECT_EQ(fit(chat(R"("max_tokens":20)"), 80), "20");
  EXPECT_EQ(fit(chat(R"("max_tokens":20)"), 81), "max_tokens");
  EXPECT_EQ(fit(chat(R"("max_completion_tokens":20)"), 81), "max_completion_tokens");
  EXPECT_EQ(fit(chat(R"("min_tokens":20)"), 81), "min_tokens");
  EXPECT_EQ(fit(completion(R"("prompt":"x")"), 84), "16");
  EXPECT_EQ(fit(completion(R"("prompt":"x")"), 85), "max_tokens");
}

TEST(OpenAiRequest, SaysWhetherTheModelOrTheMemoryIsTooSmall) {
  for (const bool by_memory : {false, true}) {
    for (const std::int64_t prompt : {81, 100}) {
      ApiRequest request = *chat(R"("max_tokens":20)");
      const auto error = fit_context(request, Tokens(prompt), {Tokens(100), by_memory}, "messages");
      ASSERT_TRUE(error);
      EXPECT_TRUE(error->message.contains("maximum context length is 100 tokens"))
          << error->message;
      EXPECT_EQ(error->message.contains("[decode] kv_memory"), by_memory) << error->message;
    }
  }
}

struct Bad {
  const char* fields;
  const char* param;
};
class ChatMistakes : public testing::TestWithParam<Bad> {};

TEST_P(ChatMistakes, AreRefusedByName) {
  const auto r = chat(GetParam().fields);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().status, 400);
  EXPECT_EQ(r.error().param, GetParam().param) << r.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Table, ChatMistakes,
    testing::Values(
        Bad{R"("temperature":3)", "temperature"}, Bad{R"("temperature":"1")", "temperature"},
        Bad{R"("top_p":1.1)", "top_p"}, Bad{R"("n":0)", "n"}, Bad{R"("n":1000000)", "n"},
        Bad{R"("n":1.5)", "n"}, Bad{R"("max_tokens":0)", "max_tokens"},
        Bad{R"("max_tokens":3,"max_completion_tokens":4)", "max_completion_tokens"},
        Bad{R"("max_tokens":3,"min_tokens":4)", "min_tokens"}, Bad{R"("stop":[""])", "stop"},
        Bad{R"("stop":[1])", "stop"}, Bad{R"("stop":{})", "stop"}, Bad{R"("seed":"x")", "seed"},
        Bad{R"("seed":1e30)", "seed"}, Bad{R"("logit_bias":{"x":1})", "logit_bias"},
        Bad{R"("logit_bias":{"1":101})", "logit_bias"}, Bad{R"("logit_bias":[1])", "logit_bias"},
        Bad{R"("top_logprobs":2)", "top_logprobs"},
        Bad{R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
        Bad{R"("stream_options":{"include_usage":true})", "stream_options"},
        Bad{R"("stream":true,"stream_options":{"foo":1})", "stream_options.foo"},
        Bad{R"("tools":[{"type":"function"}])", "tools"},
        Bad{R"("response_format":{"type":"json_object"})", "response_format"},
        Bad{R"("audio":{})", "audio"}, Bad{R"("foo":1)", "foo"}, Bad{R"("stream":1)", "stream"},
        Bad{R"("prediction":{})", "prediction"}, Bad{R"("store":true)", "store"},
        Bad{R"("temperature":99999999999999999999)", "temperature"},
        Bad{R"("seed":-9223372036854775809)", "seed"}, Bad{R"("seed":1e16)", "seed"},
        Bad{R"("user":5)", "user"}, Bad{R"("safety_identifier":{})", "safety_identifier"},
        Bad{R"("metadata":[])", "metadata"}, Bad{R"("metadata":{"a":1})", "metadata"},
        Bad{R"("prompt_cache_key":1)", "prompt_cache_key"},
        Bad{R"("prompt_cache_retention":"zzz")", "prompt_cache_retention"},
        Bad{R"("prompt_cache_retention":24)", "prompt_cache_retention"},
        Bad{R"("parallel_tool_calls":"x")", "parallel_tool_calls"},
        Bad{R"("skip_special_tokens":1)", "skip_special_tokens"},
        Bad{R"("stream":true,"stream_options":{"include_obfuscation":1})",
            "stream_options.include_obfuscation"}));

TEST(OpenAiRequest, SizesAreCheckedBeforeAnythingIsConverted) {
  const auto repeated = [](std::string_view item, int count) {
    std::string out(item);
    for (int i = 1; i < count; ++i) out += fmt::format(",{}", item);
    return out;
  };
  // What is wrong inside is not looked at: the number alone is.
  EXPECT_THAT(chat(fmt::format(R"("stop_token_ids":[{}])", repeated("-1", 17))).error().message,
              HasSubstr("at most 16"));
  const auto messages =
      parse_chat_request(fmt::format(R"({{"messages":[{}]}})", repeated("[[[]]]", 5)),
                         ApiLimits{.messages_max = 4, .depth_max = 2});
  EXPECT_THAT(messages.error().message, HasSubstr("5 messages, at most 4"));
  std::string keys;
  for (int i = 0; i < 1025; ++i) keys += fmt::format("{}\"k{}\":1", i > 0 ? "," : "", i);
  const auto kwargs = chat(fmt::format(R"("chat_template_kwargs":{{{}}})", keys));
  EXPECT_EQ(kwargs.error().param, "chat_template_kwargs");
  EXPECT_THAT(kwargs.error().message, HasSubstr("more than 1024 keys"));
}

TEST(OpenAiRequest, BodiesThatAreNotObjects) {
  for (const char* body : {"", "[]", "{", "{\"a\":\"\xFF\"}", "nul", "{} x"}) {
    const auto r = parse_chat_request(body, ApiLimits{});
    ASSERT_FALSE(r) << body;
    EXPECT_EQ(r.error().code, "invalid_json") << body;
  }
}

TEST(OpenAiRequest, CompletionPrompts) {
  EXPECT_EQ(std::get<std::string>(completion(R"("prompt":"a")")->prompts[0]), "a");
  EXPECT_EQ(std::get<std::vector<TokenId>>(completion(R"("prompt":[1,2])")->prompts[0]),
            (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(completion(R"("prompt":["a","b"])")->prompts.size(), 2u);
  EXPECT_EQ(completion(R"("prompt":[[1],[2]])")->prompts.size(), 2u);
  EXPECT_EQ(completion(R"("prompt":"a")")->sampling.max_tokens, Tokens(16));
  for (const char* bad : {R"("prompt":[])", R"("prompt":[1,-2])", R"("prompt":{})",
                          R"("prompt":["a",1])", R"("n":1)"}) {
    const auto r = completion(bad);
    ASSERT_FALSE(r) << bad;
    EXPECT_EQ(r.error().param, "prompt") << bad;
  }
  EXPECT_EQ(completion(R"("prompt":["a","b","c"],"n":10)").error().param, "n");
  std::string many = "\"a\"";
  for (int i = 1; i < 17; ++i) many += ",\"a\"";
  EXPECT_EQ(completion(fmt::format(R"("prompt":[{}])", many)).error().param, "prompt");
  EXPECT_EQ(completion(R"("prompt":"a","echo":true,"logprobs":1)")->sampling.prompt_logprobs, 1);
  EXPECT_EQ(completion(R"("prompt":"a","best_of":2)").error().param, "best_of");
}

TEST(OpenAiResponse, ChatChunksEscapeAndEnd) {
  const StreamRenderer renderer({ApiRequest::Kind::kChat, "chatcmpl-1", "m", 5}, true, false);
  std::string out;
  renderer.append_chunk(out, 0, "a\"\n", "", FinishReason::kNone, {});
  EXPECT_EQ(out,
            "data: "
            "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":"
            "\"m\",\"choices\":["
            "{\"index\":0,\"delta\":{\"content\":\"a\\\"\\n\"},\"logprobs\":null,\"finish_reason\":"
            "null}],\"usage\":null}\n\n");
  for (const std::string& event : {renderer.first(0), out, renderer.usage_chunk({3, 4, 1})}) {
    EXPECT_TRUE(nlohmann::json::accept(event.substr(6, event.size() - 8))) << event;
  }
}

// OpenAI: "the API will always return the logprob of the sampled token".
TEST(OpenAiResponse, TheChosenTokenIsAmongTheTopOnes) {
  const auto bytes_of = [](TokenId id) { return std::string(1, static_cast<char>('a' + id)); };
  const auto growth = [](TokenId) { return 1; };
  std::int64_t offset = 0;
  const std::vector<TokenLogprobs> logprobs{{{3, -4.0F}, {{1, -0.5F}, {2, -1.5F}}},
                                            {{1, -0.5F}, {{1, -0.5F}, {2, -1.5F}}},
                                            {{1, -0.5F}, {}}};
  const auto rendered = nlohmann::json::parse(
      render_completion_logprobs({}, logprobs, bytes_of, growth, offset))["top_logprobs"];
  EXPECT_EQ(rendered[0], (nlohmann::json{{"b", -0.5}, {"c", -1.5}, {"d", -4.0}}));
  EXPECT_EQ(rendered[1], (nlohmann::json{{"b", -0.5}, {"c", -1.5}}));
  EXPECT_TRUE(rendered[2].empty()) << "none was asked for";
}

TEST(OpenAiResponse, ANameIsOnceAmongTheTopOnes) {
  const auto bytes_of = [](TokenId id) { return id < 3 ? std::string("n") : std::string("x"); };
  std::int64_t offset = 0;
  const std::vector<TokenLogprobs> logprobs{{{3, -4.0F}, {{1, -0.5F}, {2, -1.5F}}},
                                            {{2, -1.5F}, {{1, -0.5F}, {2, -1.5F}}}};
  const std::string rendered =
      render_completion_logprobs({}, logprobs, bytes_of, [](TokenId) { return 1; }, offset);
  EXPECT_NE(rendered.find(R"("top_logprobs":[{"n":-0.5,"x":-4},{"n":-1.5}])"), std::string::npos)
      << rendered;
}

TEST(OpenAiResponse, WholeAnswersAreJson) {
  const auto bytes_of = [](TokenId id) { return id == 1 ? std::string("é") : std::string("\xFF"); };
  const std::vector<TokenLogprobs> logprobs{{{1, -0.5F}, {{1, -0.5F}, {2, -1e30F}}}};
  const std::string chat_logprobs = render_chat_logprobs(logprobs, bytes_of);
  std::int64_t offset = 3;
  const std::string old_logprobs = render_completion_logprobs(
      {2}, logprobs, bytes_of, [](TokenId id) { return id == 2 ? 0 : 4; }, offset);
  EXPECT_EQ(offset, 7);
  EXPECT_NE(old_logprobs.find(R"("text_offset":[3,3])"), std::string::npos) << old_logprobs;
  for (const auto kind : {ApiRequest::Kind::kChat, ApiRequest::Kind::kCompletion}) {
    const std::string answer =
        render_answer({kind, "id", "m", 1},
                      {{0, "x", kind == ApiRequest::Kind::kChat ? chat_logprobs : old_logprobs,
                        FinishReason::kLength}},
                      {1, 2, 0});
    const auto parsed = nlohmann::json::parse(answer, nullptr, false);
    ASSERT_FALSE(parsed.is_discarded()) << answer;
    EXPECT_EQ(parsed["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(parsed["usage"]["total_tokens"], 3);
  }
}

TEST(ApiError, IsOpenAisObject) {
  const auto parsed = nlohmann::json::parse(to_json(invalid_field("n", "bad \"n\"")));
  EXPECT_EQ(parsed["error"]["param"], "n");
  EXPECT_EQ(parsed["error"]["code"], nullptr);
  EXPECT_EQ(to_api_error({ErrorCode::kNoCapacity, "busy"}).status, 429);
}

TEST(ApiError, WhatAClientSentDoesNotMakeItLarge) {
  EXPECT_EQ(shortened("name"), "name");
  EXPECT_EQ(shortened(std::string(200, 'x')), std::string(200, 'x'));
  EXPECT_EQ(shortened(std::string(201, 'x')), std::string(200, 'x') + "\u2026");
  for (int before = 0; before < 5; ++before) {
    std::string text(static_cast<std::size_t>(before), 'x');
    while (text.size() < 1000) text += "\U0001F600";
    const std::string shown = shortened(text);
    EXPECT_TRUE(is_valid_utf8(shown)) << shown;
    EXPECT_GE(shown.size(), 200u);
  }
  const std::string name(1'000'000, '\x01');
  const auto unknown = completion("\"prompt\":\"a\",\"" + std::string(1'000'000, 'n') + "\":1");
  ASSERT_FALSE(unknown);
  EXPECT_LT(to_json(unknown.error()).size(), 1000u);
  EXPECT_LT(to_json({400, "invalid_request_error", name, name, ""}).size(), 20'000u);
}

}  // namespace
}  // namespace pd::protocol
