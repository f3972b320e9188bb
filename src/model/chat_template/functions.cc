#include "model/chat_template/functions.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <map>

#include "base/text.h"

namespace pd::model::jinja {
namespace {

constexpr std::int64_t kRangeMax = 100'000;  // as Jinja2's sandbox

// Positional and named arguments of one call, behind what it is applied to.
class Call {
 public:
  Call(std::string_view function, const Arguments& arguments, const NamedArguments& named)
      : function_(function), arguments_(arguments), named_(named) {}
  // Argument `index` (from 0) or the one called `name`; nullptr: not given.
  const Value* find(std::size_t index, std::string_view name) const {
    if (index < arguments_.size()) return &arguments_[index];
    for (const auto& [key, value] : named_) {
      if (key == name) return &value;
    }
    return nullptr;
  }
  Value get(std::size_t index, std::string_view name, Value standard) const {
    const Value* found = find(index, name);
    return found == nullptr ? std::move(standard) : *found;
  }
  const Value& need(std::size_t index, std::string_view name) const {
    const Value* found = find(index, name);
    if (found == nullptr) fail(fmt::format("{}() needs an argument '{}'", function_, name));
    return *found;
  }
  std::string text(std::size_t index, std::string_view name, const char* standard) const {
    const Value* found = find(index, name);
    if (found == nullptr || found->is_none()) return standard;
    if (!found->text()) fail(fmt::format("{}(): '{}' must be a string", function_, name));
    return *found->text();
  }
  std::int64_t integer(std::size_t index, std::string_view name, std::int64_t standard) const {
    const Value* found = find(index, name);
    if (found == nullptr || found->is_none()) return standard;
    if (found->boolean()) return *found->boolean();
    if (!found->integer()) fail(fmt::format("{}(): '{}' must be an integer", function_, name));
    return *found->integer();
  }

 private:
  std::string_view function_;
  const Arguments& arguments_;
  const NamedArguments& named_;
};

// ---- strings ----

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
      if (count-- != 0) out += to;
      out += c;
    }
    return count != 0 ? out + to : out;
  }
  std::size_t at = 0;
  while (count-- != 0) {
    const std::size_t found = text.find(from, at);
    if (found == std::string::npos) break;
    out += text.substr(at, found - at) + to;
    at = found + from.size();
  }
  return out + text.substr(at);
}

Value split_text(const std::string& text, const Value& separator, std::int64_t limit,
                 bool from_right) {
  std::vector<std::string> parts;
  if (separator.is_none()) {
    std::string_view rest = text;
    while (true) {
      const std::string stripped = trim(rest, "", !from_right, from_right);
      if (stripped.empty()) break;
      if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
        parts.push_back(trim(stripped, "", true, true).empty() ? "" : stripped);
        break;
      }
      const std::size_t cut =
          from_right ? stripped.find_last_of(" \t\n\r\f\v") : stripped.find_first_of(" \t\n\r\f\v");
      if (cut == std::string::npos) {
        parts.push_back(stripped);
        break;
      }
      parts.push_back(from_right ? stripped.substr(cut + 1) : stripped.substr(0, cut));
      const std::size_t start =
          static_cast<std::size_t>(from_right ? 0 : rest.size() - (stripped.size() - cut));
      rest = from_right ? rest.substr(0, cut) : rest.substr(start);
    }
  } else {
    if (!separator.text()) fail("must be str or None, not " + type_name(separator));
    if (separator.text()->empty()) fail("empty separator");
    std::string rest = text;
    while (limit < 0 || static_cast<std::int64_t>(parts.size()) < limit) {
      const std::size_t found =
          from_right ? rest.rfind(*separator.text()) : rest.find(*separator.text());
      if (found == std::string::npos) break;
      const std::size_t behind = found + separator.text()->size();
      parts.push_back(from_right ? rest.substr(behind) : rest.substr(0, found));
      rest = from_right ? rest.substr(0, found) : rest.substr(behind);
    }
    parts.push_back(rest);
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

std::string join(const std::vector<Value>& items, const std::string& separator) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i)
    out += (i > 0 ? separator : "") + to_text(items[i]);
  return out;
}

Value splitlines(const std::string& text) {
  std::vector<Value> out;
  std::size_t start = 0;
  while (start < text.size()) {
    const std::size_t end = text.find_first_of("\n\r", start);
    out.emplace_back(text.substr(start, end - start));
    if (end == std::string::npos) break;
    start = end + (text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n' ? 2 : 1);
  }
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
         return !s.empty() && std::ranges::all_of(s, [](char c) { return c >= '0' && c <= '9'; });
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

Value dict_items(const Dict& dict) {
  std::vector<Value> out;
  for (const auto& [key, value] : dict.items) out.push_back(Value::list({key, value}, true));
  return Value::list(std::move(out));
}

// A method bound to its dictionary; Undefined when there is none of that name.
Value dict_method(const std::shared_ptr<Dict>& dict, const std::string& name) {
  if (name == "items")
    return Value::callable(name, [dict](Arguments, NamedArguments) { return dict_items(*dict); });
  if (name == "keys" || name == "values") {
    return Value::callable(name, [dict, keys = name == "keys"](Arguments, NamedArguments) {
      std::vector<Value> out;
      for (const auto& [key, value] : dict->items) out.push_back(keys ? Value(key) : value);
      return Value::list(std::move(out));
    });
  }
  if (name == "get") {
    return Value::callable(name, [dict](Arguments args, NamedArguments named) {
      const Call call("get", args, named);
      const Value& key = call.need(0, "key");
      const Value* found = key.text() ? dict->find(*key.text()) : nullptr;
      return found != nullptr ? *found : call.get(1, "default", None{});
    });
  }
  return Value::undefined("");
}

// ---- filters ----

Value sorted(const Value& object, const Call& call) {
  auto items = items_of(object);
  const bool reverse = truthy(call.get(0, "reverse", false));
  const bool exact = truthy(call.get(1, "case_sensitive", false));
  const Value attribute_name = call.get(2, "attribute", None{});
  const auto key = [&](const Value& item) {
    Value out = attribute_name.text() ? subscript(item, attribute_name) : item;
    return !exact && out.text() ? Value(lower(*out.text())) : out;
  };
  std::ranges::stable_sort(items, [&](const Value& a, const Value& b) {
    return reverse ? compare(key(b), key(a)) < 0 : compare(key(a), key(b)) < 0;
  });
  return Value::list(std::move(items));
}

Value dictsort(const Value& object, const Call& call) {
  if (!object.dict()) fail("dictsort needs a dictionary");
  auto items = object.dict()->items;
  const bool by_value = call.text(1, "by", "key") == "value";
  const bool reverse = truthy(call.get(2, "reverse", false));
  const bool exact = truthy(call.get(0, "case_sensitive", false));
  const auto key = [&](const auto& item) {
    Value out = by_value ? item.second : Value(item.first);
    return !exact && out.text() ? Value(lower(*out.text())) : out;
  };
  std::ranges::stable_sort(items, [&](const auto& a, const auto& b) {
    return reverse ? compare(key(b), key(a)) < 0 : compare(key(a), key(b)) < 0;
  });
  return dict_items(Dict{items, false});
}

// select, reject, selectattr, rejectattr: with a test, or by truth.
Value selected(const Value& object, const Arguments& arguments, bool by_attribute, bool keep) {
  std::vector<Value> out;
  std::size_t next = 1;
  Value attribute_name;
  if (by_attribute) {
    if (arguments.size() < 2) fail("selectattr needs an attribute");
    attribute_name = arguments[next++];
  }
  for (const Value& item : items_of(object)) {
    Value subject = by_attribute ? subscript(item, attribute_name) : item;
    bool hit = false;
    if (next < arguments.size()) {
      if (!arguments[next].text() || !is_test(*arguments[next].text()))
        fail("no test named " + to_repr(arguments[next]));
      Arguments test{subject};
      test.insert(test.end(), arguments.begin() + static_cast<std::ptrdiff_t>(next) + 1,
                  arguments.end());
      hit = apply_test(*arguments[next].text(), test);
    } else {
      hit = truthy(subject);
    }
    if (hit == keep) out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value mapped(const Value& object, const Arguments& arguments, const NamedArguments& named) {
  std::vector<Value> out;
  const Call call("map", arguments, named);
  const Value* attribute_name = call.find(99, "attribute");
  for (const Value& item : items_of(object)) {
    if (attribute_name != nullptr) {
      Value found = subscript(item, *attribute_name);
      if (found.is_undefined()) found = call.get(99, "default", found);
      out.push_back(std::move(found));
      continue;
    }
    if (arguments.size() < 2 || !arguments[1].text() || !is_filter(*arguments[1].text()))
      fail("map requires a filter argument");
    Arguments inner{item};
    inner.insert(inner.end(), arguments.begin() + 2, arguments.end());
    out.push_back(apply_filter(*arguments[1].text(), std::move(inner), {}));
  }
  return Value::list(std::move(out));
}

Value unique(const Value& object) {
  std::vector<Value> out;
  const auto same = [](const Value& a, const Value& b) {
    return a.text() && b.text() ? lower(*a.text()) == lower(*b.text()) : equal(a, b);
  };
  for (const Value& item : items_of(object)) {
    if (std::ranges::none_of(out, [&](const Value& seen) { return same(seen, item); }))
      out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value to_integer(const Value& object, const Call& call) {
  if (object.boolean() || object.integer()) return arithmetic("+", object, 0);
  if (object.real()) return static_cast<std::int64_t>(std::trunc(*object.real()));
  if (object.text()) {
    const std::string text = trim(*object.text(), "", true, true);
    std::int64_t number = 0;
    const char* start = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto [end, code] = std::from_chars(start, text.data() + text.size(), number);
    if (code == std::errc() && end == text.data() + text.size()) return number;
    double real = 0;
    const auto [real_end, real_code] = std::from_chars(start, text.data() + text.size(), real);
    if (real_code == std::errc() && real_end == text.data() + text.size())
      return static_cast<std::int64_t>(std::trunc(real));
  }
  return call.get(0, "default", 0);
}

Value to_real(const Value& object, const Call& call) {
  if (object.is_number()) return as_double(object);
  if (object.text()) {
    const std::string text = trim(*object.text(), "", true, true);
    double real = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), real);
    if (code == std::errc() && end == text.data() + text.size()) return real;
  }
  return call.get(0, "default", 0.0);
}

Value indented(const Value& object, const Call& call) {
  const Value width = call.get(0, "width", 4);
  const std::string indent =
      width.text() ? *width.text()
                   : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                     width.integer() ? *width.integer() : 4, 0, 1000)),
                                 ' ');
  const bool first = truthy(call.get(1, "first", false)),
             blank = truthy(call.get(2, "blank", false));
  std::string out;
  bool start = true;
  const std::string text = to_text(object);
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (!start) out += '\n';
    if ((start && first) || (!start && (blank || !line.empty()))) out += indent;
    out += line;
    start = false;
    at = end + 1;
  }
  return out;
}

Value rounded(const Value& object, const Call& call) {
  const double scale = std::pow(10.0, static_cast<double>(call.integer(0, "precision", 0)));
  const std::string method = call.text(1, "method", "common");
  const double x = as_double(object) * scale;
  return (method == "ceil"    ? std::ceil(x)
          : method == "floor" ? std::floor(x)
                              : std::nearbyint(x)) /
         scale;
}

Value first_or_last(const Value& object, bool first) {
  const auto items = items_of(object);
  if (items.empty()) return Value::undefined("No first item, sequence was empty.");
  return first ? items.front() : items.back();
}

Value json_filter(const Value& object, const Call& call) {
  const Value indent = call.get(1, "indent", None{});
  return to_json_text(
      object,
      indent.integer() ? static_cast<int>(std::clamp<std::int64_t>(*indent.integer(), 0, 100)) : -1,
      truthy(call.get(3, "sort_keys", false)));
}

using Filter = Value (*)(const Value& object, const Call& call);

const std::map<std::string, Filter, std::less<>>& simple_filters() {
  static const std::map<std::string, Filter, std::less<>> filters{
      {"length", [](const Value& v, const Call&) -> Value { return length_of(v); }},
      {"count", [](const Value& v, const Call&) -> Value { return length_of(v); }},
      {"trim",
       [](const Value& v, const Call& c) -> Value {
         return trim(to_text(v), c.text(0, "chars", ""), true, true);
       }},
      {"upper", [](const Value& v, const Call&) -> Value { return upper(to_text(v)); }},
      {"lower", [](const Value& v, const Call&) -> Value { return lower(to_text(v)); }},
      {"title", [](const Value& v, const Call&) -> Value { return title(to_text(v)); }},
      {"capitalize", [](const Value& v, const Call&) -> Value { return capitalize(to_text(v)); }},
      {"replace",
       [](const Value& v, const Call& c) -> Value {
         return replace_all(to_text(v), c.text(0, "old", ""), c.text(1, "new", ""),
                            c.integer(2, "count", -1));
       }},
      {"first", [](const Value& v, const Call&) { return first_or_last(v, true); }},
      {"last", [](const Value& v, const Call&) { return first_or_last(v, false); }},
      {"list", [](const Value& v, const Call&) { return Value::list(items_of(v)); }},
      {"string", [](const Value& v, const Call&) -> Value { return to_text(v); }},
      {"safe", [](const Value& v, const Call&) { return v; }},
      {"int", to_integer},
      {"float", to_real},
      {"abs",
       [](const Value& v, const Call&) -> Value {
         return v.real()            ? Value(std::fabs(*v.real()))
                : compare(v, 0) < 0 ? arithmetic("-", 0, v)
                                    : v;
       }},
      {"round", rounded},
      {"indent", indented},
      {"tojson", json_filter},
      {"sort", sorted},
      {"dictsort", dictsort},
      {"unique", [](const Value& v, const Call&) { return unique(v); }},
      {"items",
       [](const Value& v, const Call&) -> Value {
         if (v.is_undefined()) return Value::list({});
         if (!v.dict()) fail("Can only get item pairs from a mapping.");
         return dict_items(*v.dict());
       }},
      {"reverse",
       [](const Value& v, const Call&) -> Value {
         auto items = items_of(v);
         std::ranges::reverse(items);
         return v.text() ? Value(join(items, "")) : Value::list(std::move(items));
       }},
      {"join",
       [](const Value& v, const Call& c) -> Value {
         std::vector<Value> items = items_of(v);
         if (const Value* name = c.find(1, "attribute")) {
           for (Value& item : items) item = subscript(item, *name);
         }
         return join(items, c.text(0, "d", ""));
       }},
      {"default",
       [](const Value& v, const Call& c) -> Value {
         const bool replace =
             v.is_undefined() || (truthy(c.get(1, "boolean", false)) && !truthy(v));
         return replace ? c.get(0, "default_value", "") : v;
       }},
  };
  return filters;
}

// ---- tests ----

using Test = bool (*)(const Value& object, const Arguments& arguments);

const Value& operand(const Arguments& arguments) {
  if (arguments.size() < 2) fail("a test needs an argument");
  return arguments[1];
}
std::int64_t whole(const Value& value) {
  if (!value.integer()) fail("a test needs an integer");
  return *value.integer();
}

const std::map<std::string, Test, std::less<>>& tests() {
  static const std::map<std::string, Test, std::less<>> all{
      {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
      {"none", [](const Value& v, const Arguments&) { return v.is_none(); }},
      {"string", [](const Value& v, const Arguments&) { return v.text() != nullptr; }},
      {"mapping", [](const Value& v,
                     const Arguments&) { return v.dict() != nullptr && !v.dict()->is_namespace; }},
      {"sequence",
       [](const Value& v, const Arguments&) {
         return v.text() || v.list() || v.dict() || v.is_undefined();
       }},
      {"iterable",
       [](const Value& v, const Arguments&) {
         return v.text() || v.list() || v.dict() || v.is_undefined();
       }},
      {"number", [](const Value& v, const Arguments&) { return v.is_number(); }},
      {"integer", [](const Value& v, const Arguments&) { return v.integer() != nullptr; }},
      {"float", [](const Value& v, const Arguments&) { return v.real() != nullptr; }},
      {"boolean", [](const Value& v, const Arguments&) { return v.boolean() != nullptr; }},
      {"true", [](const Value& v, const Arguments&) { return v.boolean() && *v.boolean(); }},
      {"false", [](const Value& v, const Arguments&) { return v.boolean() && !*v.boolean(); }},
      {"callable", [](const Value& v, const Arguments&) { return v.callable() != nullptr; }},
      {"odd", [](const Value& v, const Arguments&) { return whole(v) % 2 != 0; }},
      {"even", [](const Value& v, const Arguments&) { return whole(v) % 2 == 0; }},
      {"divisibleby",
       [](const Value& v, const Arguments& a) {
         return truthy(equal(arithmetic("%", v, operand(a)), 0));
       }},
      {"lower", [](const Value& v, const Arguments&) { return to_text(v) == lower(to_text(v)); }},
      {"upper", [](const Value& v, const Arguments&) { return to_text(v) == upper(to_text(v)); }},
      {"in", [](const Value& v, const Arguments& a) { return contains(operand(a), v); }},
      {"equalto", [](const Value& v, const Arguments& a) { return equal(v, operand(a)); }},
      {"eq", [](const Value& v, const Arguments& a) { return equal(v, operand(a)); }},
      {"ne", [](const Value& v, const Arguments& a) { return !equal(v, operand(a)); }},
      {"lt", [](const Value& v, const Arguments& a) { return compare(v, operand(a)) < 0; }},
      {"gt", [](const Value& v, const Arguments& a) { return compare(v, operand(a)) > 0; }},
      {"le", [](const Value& v, const Arguments& a) { return compare(v, operand(a)) <= 0; }},
      {"ge", [](const Value& v, const Arguments& a) { return compare(v, operand(a)) >= 0; }},
      {"sameas",
       [](const Value& v, const Arguments& a) {
         return v.storage().index() == operand(a).storage().index() && equal(v, operand(a));
       }},
  };
  return all;
}

Value range(const Arguments& arguments) {
  if (arguments.empty() || arguments.size() > 3) fail("range takes 1 to 3 arguments");
  std::int64_t start = 0, stop = 0, step = 1;
  for (const Value& argument : arguments) (void)whole(argument);
  if (arguments.size() == 1)
    stop = *arguments[0].integer();
  else
    start = *arguments[0].integer(), stop = *arguments[1].integer();
  if (arguments.size() == 3) step = *arguments[2].integer();
  if (step == 0) fail("range() arg 3 must not be zero");
  std::vector<Value> out;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<std::int64_t>(out.size()) >= kRangeMax)
      fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    out.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(out));
}

Value namespace_of(const Arguments& arguments, const NamedArguments& named, bool is_namespace) {
  auto out = std::make_shared<Dict>();
  out->is_namespace = is_namespace;
  for (const Value& argument : arguments) {
    if (!argument.dict()) fail("namespace() takes dictionaries and named values");
    for (const auto& [key, value] : argument.dict()->items) out->set(key, value);
  }
  for (const auto& [key, value] : named) out->set(key, value);
  return Value(out);
}

std::string formatted_time(const std::string& format, std::int64_t unix_seconds) {
  const std::time_t seconds = unix_seconds;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char buffer[512];
  const std::size_t n =
      format.empty() ? 0 : std::strftime(buffer, sizeof(buffer), format.c_str(), &parts);
  return std::string(buffer, n);
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

bool is_filter(std::string_view name) {
  for (const char* special :
       {"select", "reject", "selectattr", "rejectattr", "map", "d", "e", "escape"}) {
    if (name == special) return name != "e" && name != "escape";
  }
  return simple_filters().contains(name);
}

bool is_test(std::string_view name) { return tests().contains(name); }

Value apply_filter(const std::string& name, Arguments arguments, NamedArguments named) {
  if (name == "select" || name == "reject")
    return selected(arguments[0], arguments, false, name == "select");
  if (name == "selectattr" || name == "rejectattr")
    return selected(arguments[0], arguments, true, name == "selectattr");
  if (name == "map") return mapped(arguments[0], arguments, named);
  const Value object = std::move(arguments[0]);
  arguments.erase(arguments.begin());
  return simple_filters().at(name == "d" ? "default" : name)(object, Call(name, arguments, named));
}

bool apply_test(const std::string& name, const Arguments& arguments) {
  return tests().at(name)(arguments[0], arguments);
}

std::vector<std::pair<std::string, Value>> global_functions(std::int64_t unix_seconds) {
  return {
      {"range", Value::callable(
                    "range", [](Arguments arguments, NamedArguments) { return range(arguments); })},
      {"namespace",
       Value::callable("namespace",
                       [](Arguments a, NamedArguments n) { return namespace_of(a, n, true); })},
      {"dict", Value::callable("dict", [](Arguments a,
                                          NamedArguments n) { return namespace_of(a, n, false); })},
      {"raise_exception",
       Value::callable("raise_exception",
                       [](Arguments a, NamedArguments n) -> Value {
                         fail(to_text(Call("raise_exception", a, n).need(0, "message")));
                       })},
      {"strftime_now", Value::callable("strftime_now",
                                       [unix_seconds](Arguments a, NamedArguments n) -> Value {
                                         return formatted_time(
                                             Call("strftime_now", a, n).text(0, "format", ""),
                                             unix_seconds);
                                       })},
  };
}

}  // namespace pd::model::jinja
