#include "load/workload.h"

#include <fmt/format.h>

#include <charconv>

namespace pd::load {
namespace {

constexpr std::uint32_t kLengthMax = 10'000'000;

std::optional<std::uint32_t> length_of(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (value == 0 || value > kLengthMax) return std::nullopt;
  return value;
}

Conversation single(Ask ask) {
  Conversation out;
  out.turns.push_back(std::move(ask));
  return out;
}

}  // namespace

std::size_t Workload::asks() const {
  std::size_t out = 0;
  for (const Conversation& conversation : conversations) out += conversation.turns.size();
  return out;
}

Result<Lengths> parse_lengths(std::string_view text) {
  const std::size_t colon = text.find(':');
  const auto low = length_of(text.substr(0, colon));
  const auto high = colon == text.npos ? low : length_of(text.substr(colon + 1));
  if (low && high && *low <= *high) return Lengths{*low, *high};
  return error(
      ErrorCode::kInvalidArgument,
      fmt::format("'{}' is not a length: write a number of tokens, 128, or a range, 16:512", text));
}

ConversationSource unrelated(Lengths input, Lengths output, Rng rng) {
  return [=]() mutable {
    const Piece prompt{rng.next(), input.draw(rng)};
    return single({{}, {prompt}, output.draw(rng)});
  };
}

ConversationSource shared_prefixes(std::uint32_t prefixes, std::uint32_t prefix_tokens,
                                   Lengths input, Lengths output, Rng rng) {
  const std::uint64_t first = rng.next();
  return [=]() mutable {
    const Piece prefix{mix64(first + rng.below(prefixes)), prefix_tokens};
    const Piece own{rng.next(), input.draw(rng)};
    return single({{}, {prefix, own}, output.draw(rng)});
  };
}

ConversationSource conversations(Lengths turns, std::uint32_t system_tokens, Lengths input,
                                 Lengths output, Rng rng) {
  const Piece system{rng.next(), system_tokens};
  return [=]() mutable {
    Conversation out;
    for (std::uint32_t left = turns.draw(rng); left > 0; --left) {
      Ask ask{{}, {}, output.draw(rng)};
      if (out.turns.empty() && system_tokens > 0) ask.prompt.push_back(system);
      ask.prompt.push_back({rng.next(), input.draw(rng)});
      out.turns.push_back(std::move(ask));
    }
    return out;
  };
}

Workload take(std::size_t count, const ConversationSource& source) {
  Workload out;
  out.conversations.reserve(count);
  while (out.conversations.size() < count) out.conversations.push_back(source());
  return out;
}

}  // namespace pd::load
