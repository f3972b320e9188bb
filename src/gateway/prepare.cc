#include "gateway/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "policy/prefix_affinity.h"

namespace pd::gateway {

using protocol::ApiError;
using protocol::ApiRequest;
using protocol::ApiResult;
using protocol::invalid_field;

namespace {

std::optional<ApiError> check_model(std::string_view asked, const PrepareContext& context) {
  if (asked.empty() || asked == context.model_name) return std::nullopt;
  return ApiError{404, "invalid_request_error",
                  fmt::format("The model '{}' does not exist; this server has '{}'",
                              protocol::shortened(asked), context.model_name),
                  "model", "model_not_found"};
}

ApiResult<std::string> render_chat(const nlohmann::ordered_json& messages,
                                   const nlohmann::ordered_json& options,
                                   bool add_generation_prompt, const PrepareContext& context,
                                   std::int64_t unix_seconds) {
  const model::Model& model = *context.model;
  const model::ChatTemplate* chat_template = model.template_for(options.contains("tools"));
  if (chat_template == nullptr) {
    const std::string why =
        model.chat_template_error.empty()
            ? "this model has no chat template"
            : "this model's chat template is not supported: " + model.chat_template_error;
    return std::unexpected(ApiError{400, "invalid_request_error", why + "; use /v1/completions",
                                    "messages", "no_chat_template"});
  }
  nlohmann::ordered_json variables = options;
  variables["messages"] = messages;
  variables["add_generation_prompt"] = add_generation_prompt;
  variables.update(model.template_variables);
  auto text = chat_template->render(variables, unix_seconds);
  if (!text)
    return std::unexpected(invalid_field(
        "messages", "the model's chat template refuses them: " + text.error().message));
  return std::move(*text);
}

ApiResult<std::vector<TokenId>> encode(std::string_view text, const PrepareContext& context,
                                       bool add_special, std::string_view field,
                                       std::size_t tokens_max) {
  auto ids = context.model->tokenizer.encode(
      text, {.add_special_tokens = add_special, .parse_special = true, .tokens_max = tokens_max});
  if (!ids && ids.error().code == ErrorCode::kTooLarge) {
    return std::unexpected(
        ApiError{400, "invalid_request_error",
                 describe(context.context_max) + ", and the prompt has more; shorten it",
                 std::string(field), "context_length_exceeded"});
  }
  if (!ids) return std::unexpected(invalid_field(field, ids.error().message));
  return std::move(*ids);
}

std::size_t text_tokens_max(const PrepareContext& context) {
  return std::max(kTextTokensMax, static_cast<std::size_t>(context.context_max.tokens.value()));
}

ApiError too_many_tokens(std::string_view field, std::size_t tokens_max) {
  return invalid_field(field, fmt::format("'{}' has more than {} tokens, and so many are answered "
                                          "at most; send it in pieces",
                                          field, tokens_max));
}

std::optional<ApiError> check_ids(std::span<const TokenId> ids, const PrepareContext& context,
                                  std::string_view field) {
  for (const TokenId id : ids) {
    if (id < 0 || id >= context.model->config().vocab) {
      return invalid_field(field, fmt::format("token id {} is outside the vocabulary of {}", id,
                                              context.model->config().vocab));
    }
  }
  return std::nullopt;
}

}  // namespace

ApiResult<PreparedRequest> prepare(ApiRequest::Kind kind, std::string_view body,
                                   const PrepareContext& context, std::int64_t unix_seconds,
                                   std::uint64_t salt) {
  auto api = kind == ApiRequest::Kind::kChat ? parse_chat_request(body, context.limits)
                                             : parse_completion_request(body, context.limits);
  if (!api) return std::unexpected(std::move(api.error()));
  PreparedRequest out;
  if (auto error = check_model(api->model, context)) return std::unexpected(std::move(*error));
  const auto add = [&](std::vector<TokenId> ids,
                       std::string_view field) -> std::optional<ApiError> {
    if (ids.empty()) return invalid_field(field, "the prompt has no tokens");
    const Tokens tokens(static_cast<std::int64_t>(ids.size()));
    if (auto error = protocol::fit_context(*api, tokens, context.context_max, field)) return error;
    out.prefixes.push_back(policy::prefix_hashes(ids, salt));
    out.prompts.push_back(std::make_shared<const std::vector<TokenId>>(std::move(ids)));
    return std::nullopt;
  };
  // What is longer than the context is not worth reading to its end.
  const auto tokens_max = static_cast<std::size_t>(context.context_max.tokens.value());
  if (kind == ApiRequest::Kind::kChat) {
    auto text = render_chat(api->messages, api->template_options, api->add_generation_prompt,
                            context, unix_seconds);
    if (!text) return std::unexpected(std::move(text.error()));
    // The template writes the special tokens itself.
    auto ids = encode(*text, context, false, "messages", tokens_max);
    if (!ids) return std::unexpected(std::move(ids.error()));
    if (auto error = add(std::move(*ids), "messages")) return std::unexpected(std::move(*error));
  }
  for (protocol::Prompt& prompt : api->prompts) {
    std::vector<TokenId> ids;
    std::string text;
    if (auto* given = std::get_if<std::vector<TokenId>>(&prompt)) {
      if (auto error = check_ids(*given, context, "prompt"))
        return std::unexpected(std::move(*error));
      ids = std::move(*given);
      if (api->echo) text = context.model->tokenizer.decode(ids, true).value_or("");
    } else {
      text = std::move(std::get<std::string>(prompt));
      auto encoded = encode(text, context, true, "prompt", tokens_max);
      if (!encoded) return std::unexpected(std::move(encoded.error()));
      ids = std::move(*encoded);
    }
    if (auto error = add(std::move(ids), "prompt")) return std::unexpected(std::move(*error));
    if (api->echo) out.prompt_texts.push_back(std::move(text));
  }
  std::vector<TokenId> biased;
  for (const auto& [id, bias] : api->sampling.logit_bias) biased.push_back(id);
  if (auto error = check_ids(biased, context, "logit_bias"))
    return std::unexpected(std::move(*error));
  if (auto error = check_ids(api->sampling.stop_ids, context, "stop_token_ids"))
    return std::unexpected(std::move(*error));
  out.api = std::move(*api);
  return out;
}

ApiResult<std::string> tokenize(std::string_view body, const PrepareContext& context,
                                std::int64_t unix_seconds) {
  auto request = protocol::parse_tokenize_request(body, context.limits);
  if (!request) return std::unexpected(std::move(request.error()));
  if (auto error = check_model(request->model, context)) return std::unexpected(std::move(*error));
  std::string text = request->text.value_or("");
  bool add_special = request->add_special_tokens;
  if (request->messages) {
    auto rendered = render_chat(*request->messages, nlohmann::ordered_json::object(),
                                request->add_generation_prompt, context, unix_seconds);
    if (!rendered) return std::unexpected(std::move(rendered.error()));
    text = std::move(*rendered);
    add_special = false;
  }
  const std::string_view field = request->messages ? "messages" : "prompt";
  const std::size_t tokens_max = text_tokens_max(context);
  auto ids = context.model->tokenizer.encode(
      text, {.add_special_tokens = add_special, .parse_special = true, .tokens_max = tokens_max});
  if (!ids && ids.error().code == ErrorCode::kTooLarge)
    return std::unexpected(too_many_tokens(field, tokens_max));
  if (!ids) return std::unexpected(invalid_field(field, ids.error().message));
  return nlohmann::json{{"tokens", *ids},
                        {"count", ids->size()},
                        {"max_model_len", context.context_max.tokens.value()}}
      .dump();
}

ApiResult<std::string> detokenize(std::string_view body, const PrepareContext& context) {
  auto request = protocol::parse_detokenize_request(body);
  if (!request) return std::unexpected(std::move(request.error()));
  if (auto error = check_model(request->model, context)) return std::unexpected(std::move(*error));
  if (request->tokens.size() > text_tokens_max(context))
    return std::unexpected(too_many_tokens("tokens", text_tokens_max(context)));
  if (auto error = check_ids(request->tokens, context, "tokens"))
    return std::unexpected(std::move(*error));
  auto text = context.model->tokenizer.decode(request->tokens, false);
  if (!text) return std::unexpected(invalid_field("tokens", text.error().message));
  std::string out = "{\"prompt\":\"";
  append_json_escaped(out, *text);
  return out + "\"}";
}

}  // namespace pd::gateway
