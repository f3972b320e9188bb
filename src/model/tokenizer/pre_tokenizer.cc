#include "model/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pd::model::tokenizing {
namespace {

struct Stretch {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool delimiter = false;
};

// Joins delimiters with their neighbours and drops what the behaviour removes. Follows the
// reference's folds, whose flag `previous` starts as "no delimiter".
std::vector<Stretch> arranged(std::vector<Stretch> in, SplitBehavior behavior) {
  std::vector<Stretch> out;
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return in;
    case SplitBehavior::kRemoved:
      std::erase_if(in, [](const Stretch& s) { return s.delimiter; });
      return in;
    case SplitBehavior::kContiguous:
      for (const Stretch& s : in) {
        if (s.delimiter == previous && !out.empty()) {
          out.back().end = s.end;
        } else {
          out.push_back(s);
        }
        previous = s.delimiter;
      }
      return out;
    case SplitBehavior::kMergedWithPrevious:
      for (const Stretch& s : in) {
        if (s.delimiter && !previous && !out.empty()) {
          out.back().end = s.end;
        } else {
          out.push_back(s);
        }
        previous = s.delimiter;
      }
      return out;
    case SplitBehavior::kMergedWithNext:
      for (auto s = in.rbegin(); s != in.rend(); ++s) {
        if (s->delimiter && !previous && !out.empty()) {
          out.back().begin = s->begin;
        } else {
          out.push_back(*s);
        }
        previous = s->delimiter;
      }
      std::ranges::reverse(out);
      return out;
  }
  return in;
}

void append_pieces(const Piece& whole, const std::vector<Stretch>& stretches,
                   std::vector<Piece>& out) {
  for (const Stretch& s : stretches) {
    if (s.begin == s.end) continue;
    out.push_back({whole.text.substr(s.begin, s.end - s.begin), whole.first && s.begin == 0});
  }
}

// One stretch per character that `is_delimiter` accepts, and what lies between. ASCII is looked up.
template <typename Predicate>
std::vector<Stretch> split_at_characters(std::string_view text, Predicate is_delimiter) {
  std::array<bool, 128> delimits;
  for (char32_t c = 0; c < delimits.size(); ++c) delimits[c] = is_delimiter(c);
  std::vector<Stretch> out;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < delimits.size()) {
      ++at;
      if (!delimits[byte]) continue;
    } else if (!is_delimiter(next_code_point(text, at))) {
      continue;
    }
    if (done < begin) out.push_back({done, begin, false});
    out.push_back({begin, at, true});
    done = at;
  }
  if (done < text.size()) out.push_back({done, text.size(), false});
  return out;
}

struct Cutting {
  Piece piece;
  PreTokenizer::Scratch& scratch;

  std::vector<Piece>& out() const { return scratch.next; }

  Status operator()(const cut::Split& step) const {
    if (!step.invert && step.behavior == SplitBehavior::kIsolated) {
      return isolate([&](const Regex::Found& found) {
        return step.pattern.find_all(piece.text, scratch.regex, found);
      });
    }
    std::vector<Stretch> stretches;
    std::size_t done = 0;
    const auto found = [&](std::size_t begin, std::size_t end) {
      if (done != begin) stretches.push_back({done, begin, step.invert});
      stretches.push_back({begin, end, !step.invert});
      done = end;
    };
    if (auto status = step.pattern.find_all(piece.text, scratch.regex, found); !status) {
      return status;
    }
    if (done != piece.text.size()) stretches.push_back({done, piece.text.size(), step.invert});
    append_pieces(piece, arranged(std::move(stretches), step.behavior), out());
    return {};
  }

  Status operator()(const cut::Digits& step) const {
    auto stretches = split_at_characters(piece.text, is_numeric);
    const auto behavior = step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
    append_pieces(piece, arranged(std::move(stretches), behavior), out());
    return {};
  }

  Status operator()(const cut::Punctuation& step) const {
    auto stretches = split_at_characters(piece.text, is_punctuation);
    append_pieces(piece, arranged(std::move(stretches), step.behavior), out());
    return {};
  }

  Status operator()(const cut::ByteLevel& step) {
    if (step.add_prefix_space && !piece.text.starts_with(' ')) {
      scratch.changed.push_back(" " + std::string(piece.text));
      piece.text = scratch.changed.back();
    }
    if (!step.regex) {
      out().push_back(piece);
      return {};
    }
    return isolate([&](const Regex::Found& found) {
      return step.regex->find_all(piece.text, scratch.regex, found);
    });
  }

  Status operator()(const cut::Metaspace& step) const {
    std::string text = *with_byte_replaced(piece.text, ' ', step.replacement);
    const bool wanted = step.prepend == cut::Prepend::kAlways ||
                        (step.prepend == cut::Prepend::kFirst && piece.first);
    if (wanted && !text.starts_with(step.replacement)) text.insert(0, step.replacement);
    scratch.changed.push_back(std::move(text));
    const Piece whole{scratch.changed.back(), piece.first};
    if (!step.split) {
      out().push_back(whole);
      return {};
    }
    std::size_t at = 0;
    const char32_t mark = next_code_point(step.replacement, at);
    auto stretches = split_at_characters(whole.text, [&](char32_t c) { return c == mark; });
    append_pieces(whole, arranged(std::move(stretches), SplitBehavior::kMergedWithNext), out());
    return {};
  }

 private:
  // Every match and every stretch between matches becomes a piece.
  template <typename FindAll>
  Status isolate(FindAll find_all) const {
    std::size_t done = 0;
    const auto emit = [&](std::size_t begin, std::size_t end) {
      if (begin == end) return;
      out().push_back({piece.text.substr(begin, end - begin), piece.first && begin == 0});
    };
    const auto status = find_all([&](std::size_t begin, std::size_t end) {
      emit(done, begin);
      emit(begin, end);
      done = end;
    });
    if (!status) return status;
    emit(done, piece.text.size());
    return {};
  }
};

}  // namespace

bool PreTokenizer::byte_level() const {
  return !steps_.empty() && std::holds_alternative<cut::ByteLevel>(steps_.back());
}

Status PreTokenizer::run(Piece text, Scratch& scratch) const {
  scratch.pieces.clear();
  scratch.changed.clear();
  // Words have some five bytes; a long text may grow on.
  const std::size_t words = std::min<std::size_t>(text.text.size() / 4 + 4, 4096);
  scratch.pieces.reserve(words);
  scratch.next.reserve(words);
  if (!text.text.empty()) scratch.pieces.push_back(text);
  for (const auto& step : steps_) {
    scratch.next.clear();
    for (const Piece& piece : scratch.pieces) {
      const auto applied = std::visit(Cutting{piece, scratch}, step);
      if (!applied) return applied;
    }
    std::swap(scratch.pieces, scratch.next);
  }
  return {};
}

}  // namespace pd::model::tokenizing
