#include "protocol/openai_response.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/text.h"

namespace pd::protocol {
namespace {

std::string_view finish_name(FinishReason finish) {
  switch (finish) {
    case FinishReason::kNone:
      return "null";
    case FinishReason::kStop:
      return "\"stop\"";
    case FinishReason::kLength:
      return "\"length\"";
  }
  return "null";
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  append_json_escaped(out, text);
  out += '"';
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

// What every answer and chunk begins with, up to its list of choices.
void append_identity(std::string& out, const AnswerIdentity& identity, std::string_view object) {
  out += R"({"id":)";
  append_json_string(out, identity.id);
  out.append(R"(,"object":")").append(object).append(R"(","created":)");
  append_number(out, identity.created);
  out += R"(,"model":)";
  append_json_string(out, identity.model);
  out += R"(,"choices":[)";
}

void append_usage(std::string& out, const Usage& usage) {
  out += R"({"prompt_tokens":)";
  append_number(out, usage.prompt_tokens);
  out += R"(,"completion_tokens":)";
  append_number(out, usage.completion_tokens);
  out += R"(,"total_tokens":)";
  append_number(out, usage.prompt_tokens + usage.completion_tokens);
  out += R"(,"prompt_tokens_details":{"cached_tokens":)";
  append_number(out, usage.cached_tokens);
  out += "}}";
}

// JSON has no infinities: a masked token's -inf becomes the smallest value that clients accept.
float finite(float logprob) { return std::isfinite(logprob) ? logprob : -9999.0F; }

void append_bytes_list(std::string& out, std::string_view bytes) {
  out += '[';
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? "" : ",",
                   static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

void append_chat_entry(std::string& out, const LogprobEntry& entry, const TokenBytes& bytes_of) {
  const std::string bytes = bytes_of(entry.id);
  out += "{\"token\":";
  out += json_string(bytes);
  fmt::format_to(std::back_inserter(out), ",\"logprob\":{},\"bytes\":", finite(entry.logprob));
  append_bytes_list(out, bytes);
}

}  // namespace

std::int64_t code_points(std::string_view text) {
  std::int64_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

StreamRenderer::StreamRenderer(const AnswerIdentity& identity, bool include_usage,
                               bool continuous_usage)
    : identity_(identity), include_usage_(include_usage), continuous_usage_(continuous_usage) {
  prefix_ = "data: ";
  append_identity(
      prefix_, identity,
      identity.kind == ApiRequest::Kind::kChat ? "chat.completion.chunk" : "text_completion");
}

std::string StreamRenderer::first(int choice) const {
  if (identity_.kind != ApiRequest::Kind::kChat) return {};
  std::string out = prefix_;
  fmt::format_to(
      std::back_inserter(out),
      R"({{"index":{},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}])",
      choice);
  if (include_usage_) out += ",\"usage\":null";
  out += "}\n\n";
  return out;
}

void StreamRenderer::append_chunk(std::string& out, int choice, std::string_view text,
                                  std::string_view logprobs, FinishReason finish,
                                  const Usage& usage) const {
  out += prefix_;
  out += "{\"index\":";
  append_number(out, choice);
  out += ',';
  if (identity_.kind == ApiRequest::Kind::kChat) {
    // The last chunk of a chat carries no content unless text came with it.
    if (text.empty() && finish != FinishReason::kNone) {
      out += "\"delta\":{}";
    } else {
      out += "\"delta\":{\"content\":\"";
      append_json_escaped(out, text);
      out += "\"}";
    }
  } else {
    out += "\"text\":\"";
    append_json_escaped(out, text);
    out += '"';
  }
  out += ",\"logprobs\":";
  out += logprobs.empty() ? std::string_view("null") : logprobs;
  out += ",\"finish_reason\":";
  out += finish_name(finish);
  out += "}]";
  if (continuous_usage_) {
    out += ",\"usage\":";
    append_usage(out, usage);
  } else if (include_usage_) {
    out += ",\"usage\":null";
  }
  out += "}\n\n";
}

std::string StreamRenderer::usage_chunk(const Usage& usage) const {
  std::string out = prefix_ + "],\"usage\":";
  append_usage(out, usage);
  return out += "}\n\n";
}

std::string StreamRenderer::error_event(const ApiError& error) {
  return "event: error\ndata: " + to_json(error) + "\n\n";
}

std::string render_answer(const AnswerIdentity& identity,
                          const std::vector<FinishedChoice>& choices, const Usage& usage) {
  const bool chat = identity.kind == ApiRequest::Kind::kChat;
  std::size_t bytes = 320 + identity.id.size() + identity.model.size();
  for (const FinishedChoice& choice : choices)
    bytes += 128 + choice.text.size() + choice.logprobs.size();
  std::string out;
  out.reserve(bytes);
  append_identity(out, identity, chat ? "chat.completion" : "text_completion");
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const FinishedChoice& choice = choices[i];
    if (i > 0) out += ',';
    out += "{\"index\":";
    append_number(out, choice.index);
    out += chat ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"text\":";
    append_json_string(out, choice.text);
    if (chat) out += ",\"refusal\":null}";
    out += ",\"logprobs\":";
    out += choice.logprobs.empty() ? std::string_view("null") : std::string_view(choice.logprobs);
    out += ",\"finish_reason\":";
    out += finish_name(choice.finish);
    out += '}';
  }
  out += "],\"usage\":";
  append_usage(out, usage);
  out += '}';
  return out;
}

std::string render_chat_logprobs(const std::vector<TokenLogprobs>& tokens,
                                 const TokenBytes& bytes_of) {
  std::string out = "{\"content\":[";
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append_chat_entry(out, tokens[i].chosen, bytes_of);
    out += ",\"top_logprobs\":[";
    for (std::size_t j = 0; j < tokens[i].top.size(); ++j) {
      if (j > 0) out += ',';
      append_chat_entry(out, tokens[i].top[j], bytes_of);
      out += '}';
    }
    out += "]}";
  }
  out += "],\"refusal\":null}";
  return out;
}

std::string render_completion_logprobs(const std::vector<TokenId>& head,
                                       const std::vector<TokenLogprobs>& tokens,
                                       const TokenBytes& bytes_of, const TextGrowth& growth,
                                       std::int64_t& text_offset) {
  std::string names, values, tops, offsets;
  const auto separate = [&] {
    if (names.empty()) return;
    for (std::string* list : {&names, &values, &tops, &offsets}) *list += ',';
  };
  const auto begin = [&](TokenId id) {
    separate();
    const std::string bytes = bytes_of(id);
    names += json_string(bytes);
    offsets += fmt::format("{}", text_offset);
    text_offset += growth(id);
  };
  for (const TokenId id : head) {
    begin(id);
    values += "null";
    tops += "null";
  }
  for (const TokenLogprobs& token : tokens) {
    begin(token.chosen.id);
    values += fmt::format("{}", finite(token.chosen.logprob));
    std::vector<LogprobEntry> top = token.top;
    // The chosen one is always among them, as OpenAI has it: one more than was asked for.
    if (!top.empty() && std::ranges::find(top, token.chosen.id, &LogprobEntry::id) == top.end())
      top.push_back(token.chosen);
    tops += '{';
    // Tokens may have one text (a letter, and the byte that it is): a name occurs once, with the
    // chosen one's value, else the likelier's.
    const std::string chosen_name = json_string(bytes_of(token.chosen.id));
    std::vector<std::string> written;
    for (const LogprobEntry& entry : top) {
      std::string name = json_string(bytes_of(entry.id));
      const bool anothers = name == chosen_name && entry.id != token.chosen.id;
      if (anothers || std::ranges::find(written, name) != written.end()) continue;
      tops += fmt::format("{}{}:{}", written.empty() ? "" : ",", name, finite(entry.logprob));
      written.push_back(std::move(name));
    }
    tops += '}';
  }
  return fmt::format(
      R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":[{}],"text_offset":[{}]}})", names,
      values, tops, offsets);
}

}  // namespace pd::protocol
