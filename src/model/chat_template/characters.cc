#include "model/chat_template/characters.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "model/tokenizer/unicode.h"

namespace pd::model::jinja {
namespace {

struct Range {
  char32_t first, last;
};

// Numeric_Type=Digit without the decimal ones: superscripts, circled digits and the like.
// Source: Unicode 14, DerivedNumericType.txt.
constexpr std::array kDigits = {
    Range{0xB2, 0xB3},       Range{0xB9, 0xB9},       Range{0x1369, 0x1371},
    Range{0x19DA, 0x19DA},   Range{0x2070, 0x2070},   Range{0x2074, 0x2079},
    Range{0x2080, 0x2089},   Range{0x2460, 0x2468},   Range{0x2474, 0x247C},
    Range{0x2488, 0x2490},   Range{0x24EA, 0x24EA},   Range{0x24F5, 0x24FD},
    Range{0x24FF, 0x24FF},   Range{0x2776, 0x277E},   Range{0x2780, 0x2788},
    Range{0x278A, 0x2792},   Range{0x10A40, 0x10A43}, Range{0x10E60, 0x10E68},
    Range{0x11052, 0x1105A}, Range{0x1F100, 0x1F10A}};

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace

bool is_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || tokenizing::is_white_space(c); }

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_digit(char32_t c) {
  if (category(c) == UTF8PROC_CATEGORY_ND) return true;
  return std::ranges::any_of(kDigits, [c](Range r) { return r.first <= c && c <= r.last; });
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

}  // namespace pd::model::jinja
