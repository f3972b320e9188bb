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

Workload unrelated(std::size_t count, Lengths input, Lengths output, Rng& rng) {
  Workload out;
  for (std::size_t i = 0; i < count; ++i)
    out.conversations.push_back(
        single({{}, {Piece{rng.next(), input.draw(rng)}}, output.draw(rng)}));
  return out;
}

Workload shared_prefixes(std::size_t count, std::uint32_t prefixes, std::uint32_t prefix_tokens,
                         Lengths input, Lengths output, Rng& rng) {
  const std::uint64_t first = rng.next();
  Workload out;
  for (std::size_t i = 0; i < count; ++i) {
    const Piece prefix{mix64(first + rng.below(prefixes)), prefix_tokens};
    out.conversations.push_back(
        single({{}, {prefix, Piece{rng.next(), input.draw(rng)}}, output.draw(rng)}));
  }
  return out;
}

Workload conversations(std::size_t count, Lengths turns, std::uint32_t system_tokens, Lengths input,
                       Lengths output, Rng& rng) {
  const Piece system{rng.next(), system_tokens};
  Workload out;
  for (std::size_t i = 0; i < count; ++i) {
    Conversation conversation;
    for (std::uint32_t left = turns.draw(rng); left > 0; --left) {
      Ask ask{{}, {}, output.draw(rng)};
      if (conversation.turns.empty() && system_tokens > 0) ask.prompt.push_back(system);
      ask.prompt.push_back({rng.next(), input.draw(rng)});
      conversation.turns.push_back(std::move(ask));
    }
    out.conversations.push_back(std::move(conversation));
  }
  return out;
}

}  // namespace pd::load
