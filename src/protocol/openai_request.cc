#include "protocol/openai_request.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "protocol/chat_messages.h"
#include "protocol/json_object.h"

namespace pd::protocol {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr std::int64_t kTokenIdMax = std::numeric_limits<TokenId>::max();
constexpr std::int64_t kTokensLimit = 1 << 22;

JsonBounds bounds_of(const ApiLimits& limits) { return {limits.depth_max, limits.keys_max}; }

bool is_empty_list(element value) {
  simdjson::dom::array list;
  return !value.get_array().get(list) && list.size() == 0;
}
bool is_false(element value) {
  bool flag = true;
  return !value.get_bool().get(flag) && !flag;
}
bool is_true(element value) {
  bool flag = false;
  return !value.get_bool().get(flag) && flag;
}
bool is_text_format(element value) {
  std::string_view type;
  return !value["type"].get_string().get(type) && type == "text";
}
bool is_text_only(element value) {
  simdjson::dom::array list;
  if (value.get_array().get(list)) return false;
  for (const element item : list) {
    std::string_view text;
    if (item.get_string().get(text) || text != "text") return false;
  }
  return true;
}
bool is_one(element value) { return whole_number(value) == 1; }
bool is_none(element value) {
  std::string_view text;
  return !value.get_string().get(text) && (text == "none" || text == "auto");
}
bool is_default_tier(element value) {
  std::string_view text;
  return !value.get_string().get(text) && (text == "auto" || text == "default");
}

// A list of token ids; nullopt (and an error in `object`) when it is not one.
std::optional<std::vector<TokenId>> token_list(JsonObject& object, std::string_view field,
                                               element value) {
  simdjson::dom::array list;
  std::vector<TokenId> ids;
  if (!value.get_array().get(list)) {
    ids.reserve(list.size());
    for (const element item : list) {
      const auto id = whole_number(item);
      if (!id || *id < 0 || *id > kTokenIdMax) break;
      ids.push_back(static_cast<TokenId>(*id));
    }
    if (ids.size() == list.size()) return ids;
  }
  object.fail(invalid_field(field, fmt::format("'{}' must be a list of token ids", field)));
  return std::nullopt;
}

void read_stops(JsonObject& object, const ApiLimits& limits, SamplingParams& sampling) {
  const auto add = [&](std::string_view text) {
    if (text.empty() || text.size() > static_cast<std::size_t>(limits.stop_bytes_max)) {
      object.fail(invalid_field(
          "stop", fmt::format("each 'stop' must have 1 to {} bytes", limits.stop_bytes_max)));
      return;
    }
    sampling.stop_strings.emplace_back(text);
  };
  if (const auto stop = object.find("stop")) {
    std::string_view text;
    simdjson::dom::array list;
    if (!stop->get_string().get(text)) {
      add(text);
    } else if (!stop->get_array().get(list)) {
      if (list.size() > static_cast<std::size_t>(limits.stops_max)) {
        object.fail(
            invalid_field("stop", fmt::format("'stop' has {} entries, at most {} are allowed",
                                              list.size(), limits.stops_max)));
        return;
      }
      for (const element item : list) {
        if (item.get_string().get(text)) {
          object.fail(invalid_field("stop", "'stop' must be a string or a list of strings"));
          return;
        }
        add(text);
      }
    } else {
      object.fail(invalid_field("stop", "'stop' must be a string or a list of strings"));
    }
  }
  if (const auto ids = object.find("stop_token_ids")) {
    simdjson::dom::array entries;
    if (!ids->get_array().get(entries) &&
        entries.size() > static_cast<std::size_t>(limits.stops_max)) {
      object.fail(invalid_field("stop_token_ids",
                                fmt::format("at most {} ids are allowed", limits.stops_max)));
    } else if (auto list = token_list(object, "stop_token_ids", *ids)) {
      sampling.stop_ids = std::move(*list);
    }
  }
}

void read_logit_bias(JsonObject& object, const ApiLimits& limits, SamplingParams& sampling) {
  const auto value = object.find("logit_bias");
  if (!value) return;
  simdjson::dom::object map;
  if (value->get_object().get(map)) {
    object.fail(
        invalid_field("logit_bias", "'logit_bias' must be an object from token ids to numbers"));
    return;
  }
  if (map.size() > static_cast<std::size_t>(limits.logit_bias_max)) {
    object.fail(invalid_field(
        "logit_bias", fmt::format("at most {} entries are allowed", limits.logit_bias_max)));
    return;
  }
  for (const auto [key, bias] : map) {
    TokenId id = 0;
    double number = 0;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (code != std::errc() || end != key.data() + key.size() || id < 0 ||
        bias.get_double().get(number) || !(number >= -100 && number <= 100)) {
      object.fail(
          invalid_field("logit_bias", "keys must be token ids, values numbers from -100 to 100"));
      return;
    }
    sampling.logit_bias.emplace_back(id, static_cast<float>(number));
  }
}

// Fields that both endpoints share.
void read_common(JsonObject& object, const ApiLimits& limits, ApiRequest& out) {
  if (auto model = object.string("model")) out.model = std::move(*model);
  out.stream = object.boolean("stream").value_or(false);
  out.n = static_cast<int>(object.integer("n", 1, limits.choices_max).value_or(1));
  SamplingParams& s = out.sampling;
  s.temperature = static_cast<float>(object.number("temperature", 0, 2).value_or(1));
  s.top_p = static_cast<float>(object.number("top_p", 0, 1).value_or(1));
  s.top_k = static_cast<std::int32_t>(
      std::max<std::int64_t>(0, object.integer("top_k", -1, kTokenIdMax).value_or(0)));
  s.min_p = static_cast<float>(object.number("min_p", 0, 1).value_or(0));
  s.repetition_penalty =
      static_cast<float>(object.number("repetition_penalty", 0.01, 100).value_or(1));
  s.presence_penalty = static_cast<float>(object.number("presence_penalty", -2, 2).value_or(0));
  s.frequency_penalty = static_cast<float>(object.number("frequency_penalty", -2, 2).value_or(0));
  if (const auto seed = object.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max())) {
    s.seed = static_cast<std::uint64_t>(*seed);
    out.seed_given = true;
  }
  s.min_tokens = Tokens(object.integer("min_tokens", 0, kTokensLimit).value_or(0));
  s.ignore_eos = object.boolean("ignore_eos").value_or(false);
  read_stops(object, limits, s);
  read_logit_bias(object, limits, s);

  if (const auto options = object.find("stream_options")) {
    simdjson::dom::object fields;
    if (options->get_object().get(fields)) {
      object.fail(invalid_field("stream_options", "'stream_options' must be an object"));
    } else if (!out.stream) {
      object.fail(invalid_field("stream_options",
                                "'stream_options' is only allowed when 'stream' is true"));
    } else {
      JsonObject inner(fields, bounds_of(limits));
      out.include_usage = inner.boolean("include_usage").value_or(false);
      out.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
      inner.flag("include_obfuscation");
      if (auto error = inner.finish()) {
        error->param = "stream_options." + error->param;
        object.fail(std::move(*error));
      }
    }
  }

  object.unsupported("response_format", "only {\"type\": \"text\"} is served", is_text_format);
  object.unsupported("skip_special_tokens", "special tokens are never part of the text", is_true);
  // They change nothing about the answer.
  for (const auto* name : {"user", "safety_identifier", "prompt_cache_key"}) object.label(name);
  // OpenAI's description spells it in_memory, its own clients in-memory.
  object.label("prompt_cache_retention", {"in_memory", "in-memory", "24h"});
  object.labels("metadata");
  object.unsupported("service_tier", "there is one tier", is_default_tier);
  object.unsupported("store", "answers are not stored", is_false);
  // Internal fields of disaggregating engines: a client must not steer the handoff. Dropped, not
  // obeyed.
  object.ignore({"kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room",
                 "disaggregated_params", "disagg_prefill_dp_rank", "data_parallel_rank",
                 "routed_dp_rank", "cache_salt", "request_id", "priority"});
}

void read_max_tokens(JsonObject& object, ApiRequest& out) {
  const auto old_name = object.integer("max_tokens", 1, kTokensLimit);
  const auto new_name = object.integer("max_completion_tokens", 1, kTokensLimit);
  if (old_name && new_name && *old_name != *new_name) {
    object.fail(invalid_field("max_completion_tokens",
                              "'max_tokens' and 'max_completion_tokens' differ; send one of them"));
  }
  const auto limit = new_name ? new_name : old_name;
  out.max_tokens_given = limit.has_value();
  if (limit) out.sampling.max_tokens = Tokens(*limit);
  if (new_name && !old_name) out.max_tokens_name = "max_completion_tokens";
}

void check_min_tokens(JsonObject& object, const ApiRequest& request) {
  if (request.max_tokens_given && request.sampling.min_tokens > request.sampling.max_tokens) {
    object.fail(invalid_field(
        "min_tokens", fmt::format("'min_tokens' is larger than '{}'", request.max_tokens_name)));
  }
}

void refuse_tools(JsonObject& object) {
  constexpr std::string_view kWhy =
      "the model's tool calls are not parsed; describe the tools in a message";
  object.unsupported("tools", kWhy, is_empty_list);
  object.unsupported("functions", kWhy, is_empty_list);
  object.unsupported("tool_choice", kWhy, is_none);
  object.unsupported("function_call", kWhy, is_none);
  object.flag("parallel_tool_calls");
}

template <typename T>
ApiResult<T> finished(JsonObject& object, T value) {
  if (auto error = object.finish()) return std::unexpected(std::move(*error));
  return value;
}

void read_prompts(JsonObject& object, const ApiLimits& limits, std::vector<Prompt>& out) {
  const auto value = object.find("prompt");
  const auto bad = [&] {
    object.fail(invalid_field(
        "prompt",
        fmt::format("'prompt' must be a string, a list of token ids, or a list of 1 to {} of these",
                    limits.prompts_max)));
  };
  if (!value) return bad();
  std::string_view text;
  if (!value->get_string().get(text)) {
    out.emplace_back(std::string(text));
    return;
  }
  simdjson::dom::array list;
  if (value->get_array().get(list) || list.size() == 0) return bad();
  if (list.at(0).is_number()) {
    if (auto ids = token_list(object, "prompt", *value)) out.emplace_back(std::move(*ids));
    return;
  }
  if (list.size() > static_cast<std::size_t>(limits.prompts_max)) return bad();
  for (const element item : list) {
    if (!item.get_string().get(text)) {
      out.emplace_back(std::string(text));
    } else if (auto ids = token_list(object, "prompt", item); ids && !ids->empty()) {
      out.emplace_back(std::move(*ids));
    } else {
      return bad();
    }
  }
}

}  // namespace

ApiResult<ApiRequest> parse_chat_request(std::string_view body, const ApiLimits& limits) {
  BodyParser parser;
  auto root = parse_object(parser, body);
  if (!root) return std::unexpected(root.error());
  JsonObject object(*root, bounds_of(limits));
  ApiRequest out;
  out.kind = ApiRequest::Kind::kChat;
  read_messages(object, limits, out.messages);
  read_common(object, limits, out);
  read_max_tokens(object, out);
  check_min_tokens(object, out);
  const bool logprobs = object.boolean("logprobs").value_or(false);
  const auto top = object.integer("top_logprobs", 0, limits.logprobs_max);
  if (top && *top > 0 && !logprobs)
    object.fail(invalid_field("top_logprobs", "'top_logprobs' needs 'logprobs': true"));
  if (logprobs) out.sampling.logprobs = static_cast<std::int32_t>(top.value_or(0));
  out.add_generation_prompt = object.boolean("add_generation_prompt").value_or(true);
  if (auto options = object.json("chat_template_kwargs")) {
    if (!options->is_object()) {
      object.fail(
          invalid_field("chat_template_kwargs", "'chat_template_kwargs' must be an object"));
    } else {
      out.template_options = std::move(*options);
    }
  }
  refuse_tools(object);
  object.unsupported("modalities", "only text is served", is_text_only);
  object.unsupported("audio", "only text is served");
  object.unsupported("prediction", "predicted outputs are not served");
  object.unsupported("reasoning_effort", "it is not one of this model's controls");
  object.unsupported("verbosity", "it is not one of this model's controls");
  object.unsupported("web_search_options", "there is no web search");
  return finished(object, std::move(out));
}

ApiResult<ApiRequest> parse_completion_request(std::string_view body, const ApiLimits& limits) {
  BodyParser parser;
  auto root = parse_object(parser, body);
  if (!root) return std::unexpected(root.error());
  JsonObject object(*root, bounds_of(limits));
  ApiRequest out;
  out.kind = ApiRequest::Kind::kCompletion;
  read_prompts(object, limits, out.prompts);
  read_common(object, limits, out);
  read_max_tokens(object, out);
  if (!out.max_tokens_given) {
    out.max_tokens_given = true;  // this endpoint has a default of its own
    out.sampling.max_tokens = Tokens(16);
  }
  check_min_tokens(object, out);
  if (const auto top = object.integer("logprobs", 0, limits.logprobs_max)) {
    out.sampling.logprobs = static_cast<std::int32_t>(*top);
  }
  out.echo = object.boolean("echo").value_or(false);
  if (out.echo && out.sampling.logprobs) out.sampling.prompt_logprobs = out.sampling.logprobs;
  if (static_cast<int>(out.prompts.size()) * out.n > limits.choices_max) {
    object.fail(invalid_field(
        "n",
        fmt::format("prompts times 'n' is {}, at most {} choices are allowed",
                    out.prompts.size() * static_cast<std::size_t>(out.n), limits.choices_max)));
  }
  object.unsupported("best_of", "only best_of = 1 is served; use 'n'", is_one);
  object.unsupported("suffix", "insertion is not served");
  return finished(object, std::move(out));
}

std::string describe(const ContextLimit& limit) {
  return fmt::format("This model's maximum context length is {} tokens{}", limit.tokens.value(),
                     limit.by_memory ? " here, as many as the memory of a decode instance holds "
                                       "([decode] kv_memory)"
                                     : "");
}

std::optional<ApiError> fit_context(ApiRequest& request, Tokens prompt, const ContextLimit& limit,
                                    std::string_view prompt_field) {
  const auto exceeded = [](std::string message, std::string_view field) {
    return ApiError{400, "invalid_request_error", std::move(message), std::string(field),
                    "context_length_exceeded"};
  };
  if (prompt >= limit.tokens) {
    return exceeded(
        fmt::format("{}, and the prompt has {}; shorten it", describe(limit), prompt.value()),
        prompt_field);
  }
  const std::int64_t room = limit.tokens.value() - prompt.value();
  SamplingParams& sampling = request.sampling;
  if (!request.max_tokens_given) sampling.max_tokens = Tokens(room);
  const auto check = [&](Tokens wanted, std::string_view field) -> std::optional<ApiError> {
    if (wanted.value() <= room) return std::nullopt;
    return exceeded(fmt::format("{}: the prompt has {}, so at most {} can be generated, not {}",
                                describe(limit), prompt.value(), room, wanted.value()),
                    field);
  };
  if (auto error = check(sampling.max_tokens, request.max_tokens_name)) return error;
  return check(sampling.min_tokens, "min_tokens");
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body, const ApiLimits& limits) {
  BodyParser parser;
  auto root = parse_object(parser, body);
  if (!root) return std::unexpected(root.error());
  JsonObject object(*root, bounds_of(limits));
  TokenizeRequest out;
  if (auto model = object.string("model")) out.model = std::move(*model);
  out.text = object.string("prompt");
  if (object.find("messages")) {
    nlohmann::ordered_json messages;
    read_messages(object, limits, messages);
    out.messages = std::move(messages);
  }
  if (object.ok() && out.text.has_value() == out.messages.has_value()) {
    object.fail(invalid_field("prompt", "send either 'prompt' (a string) or 'messages'"));
  }
  out.add_special_tokens = object.boolean("add_special_tokens").value_or(true);
  out.add_generation_prompt = object.boolean("add_generation_prompt").value_or(true);
  return finished(object, std::move(out));
}

ApiResult<DetokenizeRequest> parse_detokenize_request(std::string_view body) {
  BodyParser parser;
  auto root = parse_object(parser, body);
  if (!root) return std::unexpected(root.error());
  JsonObject object(*root, bounds_of({}));
  DetokenizeRequest out;
  if (auto model = object.string("model")) out.model = std::move(*model);
  if (const auto tokens = object.find("tokens")) {
    if (auto ids = token_list(object, "tokens", *tokens)) out.tokens = std::move(*ids);
  } else {
    object.fail(invalid_field("tokens", "'tokens' must be a list of token ids"));
  }
  return finished(object, std::move(out));
}

}  // namespace pd::protocol
