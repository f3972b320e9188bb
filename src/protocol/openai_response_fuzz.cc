// Answers out of arbitrary text, token bytes and numbers: every event is one line of JSON, and a
// client reads the text back as valid UTF-8, whether it went out whole or in two chunks.
#include "protocol/openai_response.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/text.h"
#include "protocol/sse_reader.h"

namespace pd::protocol {
namespace {

using nlohmann::json;

// The input, taken from its front; zeros once it has ended.
class Input {
 public:
  explicit Input(std::string_view bytes) : left_(bytes) {}
  std::string_view take(std::size_t n) {
    const std::string_view out = left_.substr(0, n);
    left_.remove_prefix(out.size());
    return out;
  }
  template <typename T>
  T number() {
    T out = 0;
    take(sizeof out).copy(reinterpret_cast<char*>(&out), sizeof out);
    return out;
  }
  int below(int limit) { return number<std::uint8_t>() % limit; }
  std::string text() { return std::string(take(number<std::uint8_t>())); }
  std::string_view rest() { return take(left_.size()); }

 private:
  std::string_view left_;
};

struct Case {
  AnswerIdentity identity;
  bool include_usage = false, continuous_usage = false;
  Usage usage;
  FinishReason finish = FinishReason::kNone;
  int index = 0;
  std::vector<std::string> vocabulary;
  std::vector<TokenId> head;
  std::vector<TokenLogprobs> tokens;
  std::string_view text;

  bool chat() const { return identity.kind == ApiRequest::Kind::kChat; }
  std::string bytes_of(TokenId id) const {
    const auto i = static_cast<std::size_t>(id);
    return i < vocabulary.size() ? vocabulary[i] : std::string();
  }
};

Case draw(Input input) {
  Case out;
  out.identity.kind = input.below(2) == 0 ? ApiRequest::Kind::kChat : ApiRequest::Kind::kCompletion;
  out.include_usage = input.below(2) == 1;
  out.continuous_usage = input.below(2) == 1;
  out.identity.id = input.text();
  out.identity.model = input.text();
  out.identity.created = input.number<std::int64_t>();
  out.usage = {input.number<std::uint32_t>(), input.number<std::uint32_t>(),
               input.number<std::uint32_t>()};
  out.finish = static_cast<FinishReason>(input.below(3));
  out.index = input.below(256);
  for (int n = input.below(8); n > 0; --n) out.vocabulary.push_back(input.text());
  // One id more than there are names.
  const auto id = [&] { return input.below(static_cast<int>(out.vocabulary.size()) + 1); };
  const auto entry = [&] {
    const TokenId which = id();
    return LogprobEntry{which, input.number<float>()};
  };
  for (int n = input.below(3); n > 0; --n) out.head.push_back(id());
  for (int n = input.below(4); n > 0; --n) {
    TokenLogprobs& token = out.tokens.emplace_back();
    token.chosen = entry();
    for (int m = input.below(4); m > 0; --m) token.top.push_back(entry());
  }
  out.text = input.rest();
  return out;
}

// What a client may read where the text is not UTF-8: one U+FFFD for each byte that begins no
// character.
std::string readable(std::string_view text) {
  std::string out;
  while (true) {
    const std::size_t valid = valid_utf8_prefix(text);
    out += text.substr(0, valid);
    if (valid == text.size()) return out;
    out += "\xEF\xBF\xBD";
    text.remove_prefix(valid + 1);
  }
}

json parsed(std::string_view text) {
  json out = json::parse(text, nullptr, /*allow_exceptions=*/false);
  CHECK(!out.is_discarded());
  return out;
}

// The events of a stream, each of them one line.
std::vector<json> events_of(std::string_view stream) {
  std::vector<json> out;
  CHECK(SseReader().feed(stream, [&](std::string_view data) { out.push_back(parsed(data)); }));
  CHECK(static_cast<std::size_t>(std::ranges::count(stream, '\n')) == 2 * out.size());
  CHECK(stream.find('\r') == std::string_view::npos);
  CHECK(stream.ends_with("\n\n"));
  return out;
}

void check_entry(const json& entry, const LogprobEntry& expected, const Case& c) {
  const std::string name = c.bytes_of(expected.id);
  json bytes = json::array();
  for (const char byte : name) bytes.push_back(static_cast<unsigned char>(byte));
  CHECK(entry.at("token") == readable(name));
  CHECK(entry.at("bytes") == bytes);
  const float logprob = std::isfinite(expected.logprob) ? expected.logprob : -9999.0F;
  CHECK(entry.at("logprob").get<float>() == logprob);
}

void check_chat_logprobs(const json& content, const Case& c) {
  CHECK(content.size() == c.tokens.size());
  for (std::size_t i = 0; i < c.tokens.size(); ++i) {
    check_entry(content[i], c.tokens[i].chosen, c);
    const json& top = content[i].at("top_logprobs");
    CHECK(top.size() == c.tokens[i].top.size());
    for (std::size_t j = 0; j < top.size(); ++j) check_entry(top[j], c.tokens[i].top[j], c);
  }
}

void check_completion_logprobs(const json& lists, const Case& c) {
  const std::size_t n = c.head.size() + c.tokens.size();
  for (const char* name : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
    CHECK(lists.at(name).size() == n);
  for (std::size_t i = 0; i < n; ++i) {
    const TokenId id = i < c.head.size() ? c.head[i] : c.tokens[i - c.head.size()].chosen.id;
    CHECK(lists["tokens"][i] == readable(c.bytes_of(id)));
  }
  CHECK(std::ranges::is_sorted(lists["text_offset"].get<std::vector<std::int64_t>>()));
}

std::string text_of(const json& choice, bool chat, const char* holder) {
  return chat ? choice.at(holder).value("content", "") : choice.at("text").get<std::string>();
}

void check_choice(const json& choice, const char* holder, const Case& c) {
  CHECK(choice.at("index") == c.index);
  CHECK(text_of(choice, c.chat(), holder) == readable(c.text));
  CHECK(choice.at("finish_reason").is_null() == (c.finish == FinishReason::kNone));
  const json& logprobs = choice.at("logprobs");
  if (c.chat()) check_chat_logprobs(logprobs.at("content"), c);
  if (!c.chat()) check_completion_logprobs(logprobs, c);
}

void check_common(const json& answer, const Case& c) {
  CHECK(answer.at("id") == readable(c.identity.id));
  CHECK(answer.at("model") == readable(c.identity.model));
  CHECK(answer.at("created") == c.identity.created);
}

void check_usage(const json& usage, const Case& c) {
  CHECK(usage.at("prompt_tokens") == c.usage.prompt_tokens);
  CHECK(usage.at("total_tokens") == c.usage.prompt_tokens + c.usage.completion_tokens);
  CHECK(usage.at("prompt_tokens_details").at("cached_tokens") == c.usage.cached_tokens);
}

std::string render_logprobs(const Case& c) {
  const TokenBytes bytes_of = [&](TokenId id) { return c.bytes_of(id); };
  if (c.chat()) return render_chat_logprobs(c.tokens, bytes_of);
  const TextGrowth growth = [&](TokenId id) { return code_points(c.bytes_of(id)); };
  std::int64_t offset = 0;
  return render_completion_logprobs(c.head, c.tokens, bytes_of, growth, offset);
}

void check_stream(const StreamRenderer& renderer, const Case& c) {
  std::string stream = renderer.first(c.index);
  renderer.append_chunk(stream, c.index, c.text, render_logprobs(c), c.finish, c.usage);
  stream += renderer.usage_chunk(c.usage);
  const std::vector<json> events = events_of(stream);
  CHECK(events.size() == (c.chat() ? 3 : 2));
  for (const json& event : events) check_common(event, c);
  const json& chunk = events[events.size() - 2];
  check_choice(chunk.at("choices").at(0), "delta", c);
  if (c.continuous_usage) check_usage(chunk.at("usage"), c);
  CHECK(chunk.contains("usage") == (c.continuous_usage || c.include_usage));
  check_usage(events.back().at("usage"), c);
}

// The gateway cuts between characters only.
void check_two_chunks(const StreamRenderer& renderer, const Case& c) {
  const std::size_t first = valid_utf8_prefix(c.text.substr(0, c.text.size() / 2));
  std::string stream, text;
  renderer.append_chunk(stream, 0, c.text.substr(0, first), {}, FinishReason::kNone, c.usage);
  renderer.append_chunk(stream, 0, c.text.substr(first), {}, c.finish, c.usage);
  for (const json& event : events_of(stream))
    text += text_of(event.at("choices").at(0), c.chat(), "delta");
  CHECK(text == readable(c.text));
}

void check_error(const Case& c) {
  constexpr std::string_view kName = "event: error\n";
  const std::string event = StreamRenderer::error_event(
      {500, c.identity.model, std::string(c.text), c.identity.id, c.identity.id});
  CHECK(event.starts_with(kName));
  const std::vector<json> events = events_of(std::string_view(event).substr(kName.size()));
  CHECK(events.at(0).at("error").at("message") == readable(c.text));
}

}  // namespace
}  // namespace pd::protocol

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::protocol;
  const Case c = draw(Input(std::string_view(reinterpret_cast<const char*>(data), size)));
  const StreamRenderer renderer(c.identity, c.include_usage, c.continuous_usage);
  check_stream(renderer, c);
  check_two_chunks(renderer, c);
  check_error(c);
  const json answer = parsed(render_answer(
      c.identity, {{c.index, std::string(c.text), render_logprobs(c), c.finish}}, c.usage));
  check_common(answer, c);
  check_choice(answer.at("choices").at(0), "message", c);
  check_usage(answer.at("usage"), c);
  return 0;
}
