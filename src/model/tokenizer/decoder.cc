#include "model/tokenizer/decoder.h"

#include <algorithm>

#include "base/text.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {
namespace {

constexpr std::uint64_t kGrowthMax = 64;  // a file of steps that double each must not fill memory

// Bytes at the end of `text` that could begin `what`, which does not occur in `text`.
std::size_t open_ending(std::string_view text, std::string_view what) {
  std::size_t length = std::min(text.size(), what.size() - 1);
  while (length > 0 && text.substr(text.size() - length) != what.substr(0, length)) --length;
  return length;
}

// Copies of `character` at the end of `text`, at most `most`.
std::uint32_t count_at_end(std::string_view text, std::string_view character, std::uint32_t most) {
  std::uint32_t count = 0;
  while (count < most && text.ends_with(character)) {
    text.remove_suffix(character.size());
    ++count;
  }
  return count;
}

}  // namespace

// Text moves through the steps as pieces of tokens: text() any number of times, then end(). After
// the last token, finish() makes each step give up what it holds, first step first.
struct Decoder::Flow {
  const std::vector<decode::Step>& steps;
  State& state;
  std::string& out;

  void text(std::size_t index, std::string_view piece) {
    if (index == steps.size()) {
      out.append(piece);
      return;
    }
    StepState& own = state[index];
    if (!own.open) {
      own.open = true;
      ++own.tokens;
    }
    std::visit([&](const auto& step) { take(step, own, index, piece); }, steps[index]);
  }
  void end(std::size_t index) {
    if (index == steps.size()) return;
    StepState& own = state[index];
    if (!own.open) ++own.tokens;  // a token without text
    std::visit([&](const auto& step) { close(step, own, index); }, steps[index]);
    own.open = false;
  }
  void finish(std::size_t index) {
    if (index == steps.size()) return;
    std::visit([&](const auto& step) { last(step, state[index], index); }, steps[index]);
    finish(index + 1);
  }

 private:
  void whole(std::size_t index, std::string_view token) {
    text(index, token);
    end(index);
  }

  // ByteLevel and ByteFallback wait for the whole token: its text decides what it is.
  void take(const decode::ByteLevel&, StepState& own, std::size_t, std::string_view piece) {
    own.held.append(piece);
  }
  void close(const decode::ByteLevel&, StepState& own, std::size_t index) {
    const auto bytes = alphabet_bytes(own.held);
    own.run.append(bytes ? *bytes : own.held);
    own.held.clear();
    std::string final_text;
    take_utf8(own.run, false, final_text);
    if (!final_text.empty()) text(index + 1, final_text);
  }
  void last(const decode::ByteLevel&, StepState& own, std::size_t index) {
    std::string rest;
    take_utf8(own.run, true, rest);
    if (!rest.empty()) text(index + 1, rest);
    end(index + 1);
  }

  void take(const decode::ByteFallback&, StepState& own, std::size_t, std::string_view piece) {
    own.held.append(piece);
  }
  void close(const decode::ByteFallback& step, StepState& own, std::size_t index) {
    if (const auto byte = fallback_byte(own.held)) {
      own.run.push_back(static_cast<char>(*byte));
    } else {
      last(step, own, index);
      whole(index + 1, own.held);
    }
    own.held.clear();
  }
  void last(const decode::ByteFallback&, StepState& own, std::size_t index) {
    if (own.run.empty()) return;
    if (is_valid_utf8(own.run)) {
      whole(index + 1, own.run);
    } else {
      for (std::size_t i = 0; i < own.run.size(); ++i) whole(index + 1, kReplacementCharacter);
    }
    own.run.clear();
  }

  void take(const decode::Fuse&, StepState&, std::size_t index, std::string_view piece) {
    text(index + 1, piece);
  }
  void close(const decode::Fuse&, StepState&, std::size_t) {}
  void last(const decode::Fuse&, StepState&, std::size_t index) { end(index + 1); }

  void take(const decode::Replace& step, StepState& own, std::size_t index,
            std::string_view piece) {
    own.held.append(piece);
    std::string replaced;
    std::size_t done = 0;
    for (std::size_t at = own.held.find(step.what); at != std::string::npos;
         at = own.held.find(step.what, done)) {
      replaced.append(own.held, done, at - done);
      replaced.append(step.with);
      done = at + step.what.size();
    }
    const std::string_view rest = std::string_view(own.held).substr(done);
    const std::size_t keep = open_ending(rest, step.what);
    replaced.append(rest.substr(0, rest.size() - keep));
    own.held.erase(0, own.held.size() - keep);
    if (!replaced.empty()) text(index + 1, replaced);
  }
  void close(const decode::Replace&, StepState& own, std::size_t index) {
    if (!own.held.empty()) text(index + 1, own.held);
    own.held.clear();
    end(index + 1);
  }
  void last(const decode::Replace&, StepState&, std::size_t) {}

  void take(const decode::Strip& step, StepState& own, std::size_t index, std::string_view piece) {
    while (own.stripped < step.start && piece.starts_with(step.character)) {
      piece.remove_prefix(step.character.size());
      ++own.stripped;
    }
    if (piece.empty()) return;
    own.stripped = step.start;  // other text has begun
    own.held.append(piece);
    const std::size_t keep =
        count_at_end(own.held, step.character, step.stop) * step.character.size();
    const std::string now = own.held.substr(0, own.held.size() - keep);
    own.held.erase(0, now.size());
    if (!now.empty()) text(index + 1, now);
  }
  void close(const decode::Strip&, StepState& own, std::size_t index) {
    own.held.clear();
    own.stripped = 0;
    end(index + 1);
  }
  void last(const decode::Strip&, StepState&, std::size_t) {}

  void take(const decode::Metaspace& step, StepState& own, std::size_t index,
            std::string_view piece) {
    std::string replaced;
    for (std::size_t at = 0; at < piece.size();) {
      const std::size_t length = std::min(character_length(piece[at]), piece.size() - at);
      if (piece.substr(at, length) != step.replacement) {
        replaced.append(piece.substr(at, length));
      } else if (own.tokens > 1 || !step.drop_in_first) {
        replaced.push_back(' ');
      }
      at += length;
    }
    if (!replaced.empty()) text(index + 1, replaced);
  }
  void close(const decode::Metaspace&, StepState&, std::size_t index) { end(index + 1); }
  void last(const decode::Metaspace&, StepState&, std::size_t) {}

  void take(const decode::JoinWithSpaces&, StepState&, std::size_t index, std::string_view piece) {
    text(index + 1, piece);
  }
  void close(const decode::JoinWithSpaces&, StepState&, std::size_t index) { end(index + 1); }
  void last(const decode::JoinWithSpaces&, StepState&, std::size_t) {}
};

Decoder::Decoder() { steps_.emplace_back(decode::JoinWithSpaces{}); }

Status Decoder::add(decode::Step step) {
  if (implicit_) steps_.clear();
  implicit_ = false;
  const bool by_token = std::holds_alternative<decode::ByteLevel>(step) ||
                        std::holds_alternative<decode::ByteFallback>(step);
  const bool joined = std::ranges::any_of(steps_, [](const decode::Step& earlier) {
    return std::holds_alternative<decode::ByteLevel>(earlier) ||
           std::holds_alternative<decode::Fuse>(earlier);
  });
  if (by_token && joined) {
    return error(ErrorCode::kUnsupported,
                 "ByteLevel or ByteFallback behind a decoder that joins the tokens");
  }
  if (const auto* replace = std::get_if<decode::Replace>(&step)) {
    growth_ *= std::max<std::uint64_t>(
        1, (replace->with.size() + replace->what.size() - 1) / replace->what.size());
    if (growth_ > kGrowthMax) {
      return error(ErrorCode::kUnsupported, "replacements that grow the text more than 64-fold");
    }
  }
  steps_.push_back(std::move(step));
  return {};
}

void Decoder::token(State& state, std::string_view text, std::string& out) const {
  Flow flow{steps_, state, out};
  if (!steps_.empty() && std::holds_alternative<decode::JoinWithSpaces>(steps_.front()) &&
      state.front().tokens > 0) {
    out.push_back(' ');
  }
  flow.text(0, text);
  flow.end(0);
}

void Decoder::finish(State& state, std::string& out) const { Flow{steps_, state, out}.finish(0); }

std::string Decoder::token_bytes(std::string_view text) const {
  std::string out(text);
  const auto replace_all = [&](std::string_view what, std::string_view with) {
    for (std::size_t at = out.find(what); at != std::string::npos;
         at = out.find(what, at + with.size())) {
      out.replace(at, what.size(), with);
    }
  };
  for (const auto& step : steps_) {
    if (std::holds_alternative<decode::ByteLevel>(step)) return alphabet_bytes(out).value_or(out);
    if (std::holds_alternative<decode::ByteFallback>(step)) {
      if (const auto byte = fallback_byte(out)) return std::string(1, static_cast<char>(*byte));
    }
    if (const auto* replace = std::get_if<decode::Replace>(&step)) {
      replace_all(replace->what, replace->with);
    }
    if (const auto* metaspace = std::get_if<decode::Metaspace>(&step)) {
      replace_all(metaspace->replacement, " ");
    }
  }
  return out;
}

}  // namespace pd::model::tokenizing
