#include "model/chat_template/methods.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <functional>
#include <map>

#include "base/text.h"
#include "model/chat_template/call.h"
#include "model/chat_template/characters.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::jinja {
namespace {

using CaseMap = utf8proc_int32_t (*)(utf8proc_int32_t);

std::string map_case(std::string_view text, CaseMap first, CaseMap rest, bool each_word) {
  std::string out;
  bool start = true;
  for (const std::string& c : characters(text)) {
    utf8proc_int32_t code = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(c.data()),
                     static_cast<utf8proc_ssize_t>(c.size()), &code);
    const auto category = utf8proc_category(code);
    const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    const CaseMap map = start ? first : rest;
    // The one common letter whose capital is two; rarer ligatures stay as they are.
    if (code == 0xDF && map == utf8proc_toupper) {
      out += "SS";
    } else {
      append_utf8(out, static_cast<char32_t>(map(code)));
    }
    start = each_word ? !letter : false;
  }
  return out;
}
}  // namespace

std::string upper(std::string_view text) {
  return map_case(text, utf8proc_toupper, utf8proc_toupper, false);
}

std::string lower(std::string_view text) {
  return map_case(text, utf8proc_tolower, utf8proc_tolower, false);
}

std::string capitalize(std::string_view text) {
  return map_case(text, utf8proc_totitle, utf8proc_tolower, false);
}

std::string title(std::string_view text) {
  return map_case(text, utf8proc_totitle, utf8proc_tolower, true);
}

std::string replace_all(const std::string& text, const std::string& from, const std::string& to,
                        std::int64_t count) {
  std::string out;
  if (from.empty()) {  // between all characters, as Python does
    for (const std::string& c : characters(text)) {
      if (count-- != 0) append_text(out, to);
      append_text(out, c);
    }
    if (count != 0) append_text(out, to);
    return out;
  }
  std::size_t at = 0;
  while (count-- != 0) {
    const std::size_t found = text.find(from, at);
    if (found == std::string::npos) break;
    append_text(out, std::string_view(text).substr(at, found - at));
    append_text(out, to);
    at = found + from.size();
  }
  append_text(out, std::string_view(text).substr(at));
  return out;
}

namespace {

// The first white space, or the last; npos: none.
std::size_t find_space(std::string_view text, bool last) {
  std::size_t at = last ? text.size() : 0;
  while (last ? at > 0 : at < text.size()) {
    std::size_t found = at;
    const char32_t c =
        last ? tokenizing::previous_code_point(text, found) : tokenizing::next_code_point(text, at);
    if (is_space(c)) return found;
    if (last) at = found;
  }
  return std::string_view::npos;
}

// Parts between white space, from one end.
std::vector<std::string> split_words(std::string_view rest, std::int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  while (true) {
    rest = trimmed(rest, "", !from_right, from_right);
    if (rest.empty()) break;
    const std::size_t cut = static_cast<std::int64_t>(parts.size()) == limit
                                ? std::string_view::npos
                                : find_space(rest, from_right);
    if (cut == std::string_view::npos) {
      parts.emplace_back(rest);
      break;
    }
    const std::size_t space = tokenizing::character_length(rest[cut]);
    parts.emplace_back(from_right ? rest.substr(cut + space) : rest.substr(0, cut));
    rest = from_right ? rest.substr(0, cut) : rest.substr(cut);
  }
  return parts;
}

std::vector<std::string> split_at(std::string_view rest, std::string_view separator,
                                  std::int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  while (limit < 0 || static_cast<std::int64_t>(parts.size()) < limit) {
    const std::size_t found = from_right ? rest.rfind(separator) : rest.find(separator);
    if (found == std::string_view::npos) break;
    const std::size_t behind = found + separator.size();
    parts.emplace_back(from_right ? rest.substr(behind) : rest.substr(0, found));
    rest = from_right ? rest.substr(0, found) : rest.substr(behind);
  }
  parts.emplace_back(rest);
  return parts;
}

Value split_text(const std::string& text, const Value& separator, std::int64_t limit,
                 bool from_right) {
  std::vector<std::string> parts;
  if (separator.is_none()) {
    parts = split_words(text, limit, from_right);
  } else {
    if (!separator.text()) fail("must be str or None, not " + type_name(separator));
    if (separator.text()->empty()) fail("empty separator");
    parts = split_at(text, *separator.text(), limit, from_right);
  }
  if (from_right) std::ranges::reverse(parts);
  std::vector<Value> out(parts.begin(), parts.end());
  return Value::list(std::move(out));
}

bool matches_affix(const std::string& text, const Value& affix, bool at_start) {
  if (affix.text())
    return at_start ? text.starts_with(*affix.text()) : text.ends_with(*affix.text());
  if (!affix.list())
    fail("startswith/endswith: the argument must be a string or a tuple of strings");
  return std::ranges::any_of(affix.list()->items,
                             [&](const Value& one) { return matches_affix(text, one, at_start); });
}

std::int64_t count_of(const std::string& text, const std::string& part) {
  if (part.empty()) return static_cast<std::int64_t>(characters(text).size()) + 1;
  std::int64_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + part.size()))
    ++n;
  return n;
}

}  // namespace

std::string join(const std::vector<Value>& items, const std::string& separator) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) append_text(out, separator);
    append_text(out, to_text(items[i]));
  }
  return out;
}

namespace {

Value splitlines(const std::string& text) {
  std::vector<Value> out;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = tokenizing::next_code_point(text, at);
    if (!is_line_break(c)) continue;
    out.emplace_back(text.substr(start, end - start));
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    start = at;
  }
  if (start < text.size()) out.emplace_back(text.substr(start));
  return Value::list(std::move(out));
}

using TextMethod = Value (*)(const std::string& self, const Call& call);

const std::map<std::string, TextMethod, std::less<>>& text_methods() {
  static const std::map<std::string, TextMethod, std::less<>> methods{
      {"strip",
       [](const std::string& s, const Call& c) -> Value {
         return trim(s, c.text(0, "chars", ""), true, true);
       }},
      {"lstrip",
       [](const std::string& s, const Call& c) -> Value {
         return trim(s, c.text(0, "chars", ""), true, false);
       }},
      {"rstrip",
       [](const std::string& s, const Call& c) -> Value {
         return trim(s, c.text(0, "chars", ""), false, true);
       }},
      {"split",
       [](const std::string& s, const Call& c) {
         return split_text(s, c.get(0, "sep", None{}), c.integer(1, "maxsplit", -1), false);
       }},
      {"rsplit",
       [](const std::string& s, const Call& c) {
         return split_text(s, c.get(0, "sep", None{}), c.integer(1, "maxsplit", -1), true);
       }},
      {"splitlines", [](const std::string& s, const Call&) { return splitlines(s); }},
      {"startswith",
       [](const std::string& s, const Call& c) -> Value {
         return matches_affix(s, c.need(0, "prefix"), true);
       }},
      {"endswith",
       [](const std::string& s, const Call& c) -> Value {
         return matches_affix(s, c.need(0, "suffix"), false);
       }},
      {"upper", [](const std::string& s, const Call&) -> Value { return upper(s); }},
      {"lower", [](const std::string& s, const Call&) -> Value { return lower(s); }},
      {"title", [](const std::string& s, const Call&) -> Value { return title(s); }},
      {"capitalize", [](const std::string& s, const Call&) -> Value { return capitalize(s); }},
      {"replace",
       [](const std::string& s, const Call& c) -> Value {
         return replace_all(s, c.text(0, "old", ""), c.text(1, "new", ""),
                            c.integer(2, "count", -1));
       }},
      {"join",
       [](const std::string& s, const Call& c) -> Value {
         return join(items_of(c.need(0, "iterable")), s);
       }},
      {"count",
       [](const std::string& s, const Call& c) -> Value {
         return count_of(s, c.text(0, "sub", ""));
       }},
      {"find",
       [](const std::string& s, const Call& c) -> Value {
         const std::size_t at = s.find(c.text(0, "sub", ""));
         return at == std::string::npos
                    ? Value(-1)
                    : Value(static_cast<std::int64_t>(
                          characters(std::string_view(s).substr(0, at)).size()));
       }},
      {"isdigit",
       [](const std::string& s, const Call&) -> Value {
         for (std::size_t at = 0; at < s.size();) {
           if (!is_digit(tokenizing::next_code_point(s, at))) return false;
         }
         return !s.empty();
       }},
      {"removeprefix",
       [](const std::string& s, const Call& c) -> Value {
         const std::string p = c.text(0, "prefix", "");
         return s.starts_with(p) ? s.substr(p.size()) : s;
       }},
      {"removesuffix",
       [](const std::string& s, const Call& c) -> Value {
         const std::string p = c.text(0, "suffix", "");
         return s.ends_with(p) ? s.substr(0, s.size() - p.size()) : s;
       }},
  };
  return methods;
}

}  // namespace

Value dict_items(const Dict& dict) {
  std::vector<Value> out;
  for (const auto& [key, value] : dict.items) out.push_back(Value::list({key, value}, true));
  return Value::list(std::move(out));
}

namespace {

// A method bound to its dictionary; Undefined when there is none of that name.
Value dict_method(const std::shared_ptr<Dict>& dict, const std::string& name) {
  if (name == "items")
    return Value::callable(
        name, [dict](Arguments, NamedArguments) { return dict_items(*dict); }, dict->extent);
  if (name == "keys" || name == "values") {
    const auto call = [dict, keys = name == "keys"](Arguments, NamedArguments) {
      std::vector<Value> out;
      for (const auto& [key, value] : dict->items) out.push_back(keys ? Value(key) : value);
      return Value::list(std::move(out));
    };
    return Value::callable(name, call, dict->extent);
  }
  if (name == "get") {
    const auto get = [dict](Arguments args, NamedArguments named) {
      const Call call("get", args, named);
      const Value& key = call.need(0, "key");
      const Value* found = key.text() ? dict->find(*key.text()) : nullptr;
      return found != nullptr ? *found : call.get(1, "default", None{});
    };
    return Value::callable(name, get, dict->extent);
  }
  return Value::undefined("");
}

}  // namespace

Value attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) fail(std::get<Undefined>(object.storage()).why);
  if (const auto* dict = std::get_if<std::shared_ptr<Dict>>(&object.storage())) {
    if (!(*dict)->is_namespace) {
      Value method = dict_method(*dict, name);
      if (!method.is_undefined()) return method;
    }
    if (const Value* found = (*dict)->find(name)) return *found;
  }
  if (const std::string* text = object.text()) {
    if (const auto method = text_methods().find(name); method != text_methods().end()) {
      return Value::callable(name, [self = *text, run = method->second, name](
                                       Arguments arguments, NamedArguments named) {
        return run(self, Call(name, arguments, named));
      });
    }
  }
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", type_name(object), name));
}

}  // namespace pd::model::jinja
