#include "model/chat_template/functions.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <map>

#include "model/chat_template/call.h"
#include "model/chat_template/methods.h"

namespace pd::model::jinja {
namespace {

constexpr std::int64_t kRangeMax = 100'000;  // as Jinja2's sandbox

// ---- filters ----

// What filters mean by attribute=: names joined by dots, of which digits are indices. What a step
// does not find is `otherwise`, if given.
Value at_path(const Value& object, const Value& path, const Value* otherwise = nullptr) {
  Value out = object;
  const auto step = [&](const Value& key) {
    out = subscript(out, key);
    if (out.is_undefined() && otherwise != nullptr) out = *otherwise;
  };
  if (!path.text()) {
    step(path);
    return out;
  }
  std::string_view rest = *path.text();
  while (true) {
    const std::size_t dot = rest.find('.');
    const std::string_view name = rest.substr(0, dot);
    const char* end = name.data() + name.size();
    std::int64_t index = 0;
    const bool digits =
        !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
    const bool number = digits && std::from_chars(name.data(), end, index).ptr == end;
    step(number ? Value(index) : Value(std::string(name)));
    if (dot == std::string_view::npos) return out;
    rest.remove_prefix(dot + 1);
  }
}

Value sorted(const Value& object, const Call& call) {
  auto items = items_of(object);
  const bool reverse = truthy(call.get(0, "reverse", false));
  const bool exact = truthy(call.get(1, "case_sensitive", false));
  const Value attribute_name = call.get(2, "attribute", None{});
  const auto key = [&](const Value& item) {
    Value out = attribute_name.is_none() ? item : at_path(item, attribute_name);
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
    Value subject = by_attribute ? at_path(item, attribute_name) : item;
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
      out.push_back(at_path(item, *attribute_name, call.find(99, "default")));
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

// `otherwise` for what is no number.
Value truncated(double real, const Value& otherwise) {
  constexpr double kEnd = 9223372036854775808.0;  // 2^63
  if (std::isnan(real)) return otherwise;
  if (real < -kEnd || real >= kEnd) fail("an integer leaves the range of 64 bits");
  return static_cast<std::int64_t>(real);
}

Value to_integer(const Value& object, const Call& call) {
  if (object.boolean() || object.integer()) return arithmetic("+", object, 0);
  if (object.real()) return truncated(*object.real(), call.get(0, "default", 0));
  if (object.text()) {
    const std::string text = trim(*object.text(), "", true, true);
    std::int64_t number = 0;
    const char* start = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto [end, code] = std::from_chars(start, text.data() + text.size(), number);
    if (code == std::errc() && end == text.data() + text.size()) return number;
    double real = 0;
    const auto [real_end, real_code] = std::from_chars(start, text.data() + text.size(), real);
    if (real_code == std::errc() && real_end == text.data() + text.size())
      return truncated(real, call.get(0, "default", 0));
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
    if ((start && first) || (!start && (blank || !line.empty()))) append_text(out, indent);
    append_text(out, line);
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
           for (Value& item : items) item = at_path(item, *name);
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
