#include "model/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/text.h"

namespace pd::model::tokenizing {

char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
  const char32_t first = byte(at);
  const std::size_t length = std::min(character_length(text[at]), text.size() - at);
  char32_t code = first;
  if (length == 2) code = (first & 0x1F) << 6 | (byte(at + 1) & 0x3Fu);
  if (length == 3) {
    code = (first & 0x0F) << 12 | (byte(at + 1) & 0x3Fu) << 6 | (byte(at + 2) & 0x3Fu);
  }
  if (length == 4) {
    code = (first & 0x07) << 18 | (byte(at + 1) & 0x3Fu) << 12 | (byte(at + 2) & 0x3Fu) << 6 |
           (byte(at + 3) & 0x3Fu);
  }
  at += length;
  return code;
}

char32_t previous_code_point(std::string_view text, std::size_t& end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  std::size_t at = end;
  return next_code_point(text, at);
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
         kind == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  }
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t c) {
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME;
}

bool is_word(char32_t c) {
  if (c < 0x80) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  }
  // Join_Control, and the circled and squared letters: Alphabetic although their category is So.
  if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
      (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189)) {
    return true;
  }
  const auto kind = category(c);
  return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_ME) ||
         kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
         kind == UTF8PROC_CATEGORY_PC;
}

namespace {

// Characters that no normal form of their kind changes and that never combine with what stands
// before them: text between two of them normalizes by itself. A subset, the common scripts, is
// enough.
bool is_stable(char32_t c, NormalForm form) {
  if (c < 0x80) return true;
  if (form != NormalForm::kNfc) return false;
  return c < 0x300 || (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) ||
         (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0x1F300 && c <= 0x1F9FF);
}

// Sorts each run of marks by class, equals in their order. utf8proc does it with an insertion sort,
// quadratic in the run's length; so it only decomposes and composes here.
void order_marks(std::vector<utf8proc_int32_t>& codes) {
  const auto combining_class = [](utf8proc_int32_t c) {
    return static_cast<std::uint64_t>(utf8proc_get_property(c)->combining_class);
  };
  std::vector<std::uint64_t> run;  // class, place in the run, code point: 8, 35 and 21 bits
  for (std::size_t i = 0; i < codes.size();) {
    run.clear();
    const std::size_t begin = i;
    for (; i < codes.size() && combining_class(codes[i]) != 0; ++i) {
      run.push_back(combining_class(codes[i]) << 56 | std::uint64_t{i - begin} << 21 |
                    static_cast<std::uint64_t>(codes[i]));
    }
    std::ranges::sort(run);
    for (std::size_t k = 0; k < run.size(); ++k) {
      codes[begin + k] = static_cast<utf8proc_int32_t>(run[k] & 0x1FFFFF);
    }
    if (run.empty()) ++i;
  }
}

void append_normalized(std::string_view text, NormalForm form, std::string& out) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const auto options = static_cast<utf8proc_option_t>(
      (compatible ? UTF8PROC_COMPAT : 0) | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE));
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto code = static_cast<utf8proc_int32_t>(next_code_point(text, at));
    std::array<utf8proc_int32_t, 32> parts;  // the longest decomposition has 18 (U+FDFA)
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(code, parts.data(), parts.size(), options, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      codes.push_back(code);
    } else {
      codes.insert(codes.end(), parts.begin(), parts.begin() + count);
    }
  }
  order_marks(codes);
  if (compose) {
    const auto length = utf8proc_normalize_utf32(
        codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (length >= 0) codes.resize(static_cast<std::size_t>(length));
  }
  for (const auto code : codes) append_utf8(out, static_cast<char32_t>(code));
}

}  // namespace

std::string normalized(std::string_view text, NormalForm form) {
  std::string out;
  out.reserve(text.size());
  std::size_t copied = 0;  // text before this is in `out`
  std::size_t stable = 0;  // start of the last stable character seen
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    if (is_stable(next_code_point(text, at), form)) {
      stable = start;
      continue;
    }
    // The unstable stretch: from the stable character before it to the next one.
    std::size_t end = at;
    while (end < text.size()) {
      std::size_t next = end;
      if (is_stable(next_code_point(text, next), form)) break;
      end = next;
    }
    stable = std::max(stable, copied);
    out.append(text.substr(copied, stable - copied));
    append_normalized(text.substr(stable, end - stable), form, out);
    copied = end;
    at = end;
  }
  out.append(text.substr(copied));
  return out;
}

std::string lower_cased(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (code == 0x130) {  // the only character whose lower case is two
      out.append("i\xCC\x87");
    } else if (code < 0x80) {
      out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<int>(code))));
    }
  }
  return out;
}

namespace {

// Length of the longest prefix of bytes[at..] that could begin a character, at least 1; `complete`
// tells whether it could still become one with more bytes.
std::size_t maximal_part(std::string_view bytes, std::size_t at, bool& could_continue) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(bytes[k]); };
  const unsigned lead = byte(at);
  could_continue = false;
  if (lead < 0xC2 || lead > 0xF4) return 1;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::size_t k = 1;
  for (; k < length && at + k < bytes.size(); ++k) {
    unsigned low = 0x80;
    unsigned high = 0xBF;
    if (k == 1 && lead == 0xE0) low = 0xA0;
    if (k == 1 && lead == 0xED) high = 0x9F;
    if (k == 1 && lead == 0xF0) low = 0x90;
    if (k == 1 && lead == 0xF4) high = 0x8F;
    if (byte(at + k) < low || byte(at + k) > high) return k;
  }
  could_continue = k < length;
  return k;
}

}  // namespace

void take_utf8(std::string& bytes, bool last, std::string& out) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::size_t valid = valid_utf8_prefix(std::string_view(bytes).substr(at));
    out.append(bytes, at, valid);
    at += valid;
    if (at == bytes.size()) break;
    bool could_continue = false;
    const std::size_t part = maximal_part(bytes, at, could_continue);
    if (could_continue && !last) break;
    out.append(kReplacementCharacter);
    at += part;
  }
  bytes.erase(0, at);
}

}  // namespace pd::model::tokenizing
