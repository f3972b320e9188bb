// Requests of the OpenAI API: bytes in, one validated value out. The body is parsed once, here.
// Unknown and unsupported fields are refused by name; fields that steer disaggregation inside other
// systems are dropped, never obeyed (G7).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/units.h"
#include "protocol/api_error.h"
#include "protocol/sampling_params.h"

namespace pd::protocol {

struct ApiLimits {
  int choices_max = 16;  // n, times the number of prompts
  int prompts_max = 16;  // each has a choice at least
  int messages_max = 4096;
  int stops_max = 16;
  int stop_bytes_max = 1024;
  int logprobs_max = 20;  // OpenAI's own limit for top_logprobs
  int logit_bias_max = 1024;
  int depth_max = 64;   // of nested JSON in messages
  int keys_max = 1024;  // of one object
};

using Prompt = std::variant<std::string, std::vector<TokenId>>;

struct ApiRequest {
  enum class Kind : std::uint8_t { kChat, kCompletion };
  Kind kind = Kind::kChat;
  std::string model;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;  // usage in every chunk (an extension that load tools ask for)
  int n = 1;
  bool seed_given = false;
  bool max_tokens_given = false;               // otherwise: what the context leaves
  std::string max_tokens_name = "max_tokens";  // or max_completion_tokens, as it was given
  SamplingParams sampling;
  bool echo = false;
  // Chat: what the template sees.
  nlohmann::ordered_json messages;
  nlohmann::ordered_json template_options =
      nlohmann::ordered_json::object();  // chat_template_kwargs
  bool add_generation_prompt = true;
  // Completions: one or several prompts.
  std::vector<Prompt> prompts;
};

ApiResult<ApiRequest> parse_chat_request(std::string_view body, const ApiLimits& limits);
ApiResult<ApiRequest> parse_completion_request(std::string_view body, const ApiLimits& limits);

// How long prompt and output may be together, and whether it is the model that allows no more or
// the memory of the instances.
struct ContextLimit {
  Tokens tokens;
  bool by_memory = false;
};
// The beginning of a sentence that says so.
std::string describe(const ContextLimit& limit);

// Fits a prompt of `prompt` tokens, which came in `prompt_field`, and its output into the context,
// or says which field does not fit.
std::optional<ApiError> fit_context(ApiRequest& request, Tokens prompt, const ContextLimit& limit,
                                    std::string_view prompt_field);

struct TokenizeRequest {
  std::string model;
  std::optional<std::string> text;                 // "prompt"
  std::optional<nlohmann::ordered_json> messages;  // or a conversation
  bool add_special_tokens = true;
  bool add_generation_prompt = true;
};
struct DetokenizeRequest {
  std::string model;
  std::vector<TokenId> tokens;
};
ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body, const ApiLimits& limits);
ApiResult<DetokenizeRequest> parse_detokenize_request(std::string_view body);

}  // namespace pd::protocol
