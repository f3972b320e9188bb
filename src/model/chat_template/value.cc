#include "model/chat_template/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "model/chat_template/characters.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::jinja {
namespace {

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string out = fmt::format("{}", value);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string quoted(const std::string& text) {
  const bool has_single = text.find('\'') != std::string::npos,
             has_double = text.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t c = tokenizing::next_code_point(text, at);
    if (c == U'\\' || c == static_cast<char32_t>(quote))
      (out += '\\') += text[start];
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (is_printable(c))
      out.append(text, start, at - start);
    else if (c <= 0xFF)
      out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
    else if (c <= 0xFFFF)
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    else
      out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
  }
  return out + quote;
}

void append_json(std::string& out, const Value& value, int indent, bool sort_keys, int depth);

template <typename Items, typename One>
void append_json_items(std::string& out, const Items& items, char open, char close, int indent,
                       int depth, const One& one) {
  out += open;
  const auto line = [&](int level) {
    if (indent >= 0) out += '\n' + std::string(static_cast<std::size_t>(indent * level), ' ');
  };
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += indent >= 0 ? "," : ", ";
    first = false;
    line(depth + 1);
    one(item);
    if (out.size() > kTextMax) fail("a string is too long");
  }
  if (!items.empty()) line(depth);
  out += close;
}

void append_json_string(std::string& out, const std::string& text) {
  out += '"';
  append_json_escaped(out, text);
  out += '"';
}

void append_json(std::string& out, const Value& value, int indent, bool sort_keys, int depth) {
  if (value.is_none())
    out += "null";
  else if (const bool* b = value.boolean())
    out += *b ? "true" : "false";
  else if (const auto* i = value.integer())
    out += std::to_string(*i);
  else if (const auto* d = value.real())
    out += std::isfinite(*d) ? float_text(*d)
           : std::isnan(*d)  ? "NaN"
           : *d > 0          ? "Infinity"
                             : "-Infinity";
  else if (const auto* s = value.text())
    append_json_string(out, *s);
  else if (const List* list = value.list()) {
    append_json_items(out, list->items, '[', ']', indent, depth, [&](const Value& item) {
      append_json(out, item, indent, sort_keys, depth + 1);
    });
  } else if (const Dict* dict = value.dict(); dict != nullptr && !dict->is_namespace) {
    auto items = dict->items;
    if (sort_keys) std::ranges::sort(items, {}, [](const auto& item) { return item.first; });
    append_json_items(out, items, '{', '}', indent, depth, [&](const auto& item) {
      append_json_string(out, item.first);
      out += ": ";
      append_json(out, item.second, indent, sort_keys, depth + 1);
    });
  } else {
    fail(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
  }
}

}  // namespace

void Extent::add(const Value& value) {
  constexpr int kValueDepthMax = 200;  // a request's own values have 64
  ++size;
  if (const std::string* text = value.text()) size += static_cast<std::int64_t>(text->size() / 64);
  const Extent* inner = value.list()       ? &value.list()->extent
                        : value.dict()     ? &value.dict()->extent
                        : value.callable() ? &value.callable()->extent
                                           : nullptr;
  if (value.dict() && value.dict()->is_namespace) {
    namespaces = true;
  } else if (inner != nullptr) {
    size += inner->size;
    depth = std::max(depth, inner->depth + 1);
    namespaces |= inner->namespaces;
  }
  if (depth > kValueDepthMax) fail("values are nested too deeply");
  if (size > kSizeMax) fail("a value is too large");
}

void Dict::set(const std::string& key, Value value) {
  const auto old = std::ranges::find(items, key, [](const auto& item) { return item.first; });
  if (old == items.end()) return append(key, std::move(value));
  hold(value);
  old->second = std::move(value);
}

void Dict::append(const std::string& key, Value value) {
  hold(value);
  items.emplace_back(key, std::move(value));
}

// Of a namespace only the new value is measured: the old one is gone.
void Dict::hold(const Value& value) {
  if (is_namespace) extent = {};
  extent.add(value);
  if (is_namespace && extent.namespaces) fail("a namespace cannot hold a namespace");
}

Value from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<std::int64_t>();
    case Json::value_t::number_unsigned: {
      const auto n = json.get<std::uint64_t>();
      return n <= static_cast<std::uint64_t>(INT64_MAX) ? Value(static_cast<std::int64_t>(n))
                                                        : Value(static_cast<double>(n));
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get<std::string>();
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(item));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.items()) dict->append(key, from_json(item));
      return Value(dict);
    }
    default:
      return None{};
  }
}

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (const bool* b = value.boolean()) return *b;
  if (const auto* i = value.integer()) return *i != 0;
  if (const auto* d = value.real()) return *d != 0;
  if (const auto* s = value.text()) return !s->empty();
  if (const List* list = value.list()) return !list->items.empty();
  if (const Dict* dict = value.dict()) return dict->is_namespace || !dict->items.empty();
  return true;
}

double as_double(const Value& value) {
  if (value.is_undefined()) fail(std::get<Undefined>(value.storage()).why);
  if (!value.is_number()) fail(fmt::format("must be a number, not {}", type_name(value)));
  return value.real() ? *value.real() : static_cast<double>(value.integral());
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integral() && b.is_integral() ? a.integral() == b.integral()
                                              : as_double(a) == as_double(b);
  }
  if (a.storage().index() != b.storage().index()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (a.text()) return *a.text() == *b.text();
  if (a.list()) {
    return a.list()->tuple == b.list()->tuple &&
           std::ranges::equal(a.list()->items, b.list()->items, equal);
  }
  if (a.dict()) {
    if (a.dict()->is_namespace || b.dict()->is_namespace) return a.dict() == b.dict();
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    return std::ranges::all_of(a.dict()->items, [&](const auto& item) {
      const Value* other = b.dict()->find(item.first);
      return other != nullptr && equal(item.second, *other);
    });
  }
  return a.callable() == b.callable();
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const double x = as_double(a), y = as_double(b);
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.text() && b.text())
    return a.text()->compare(*b.text()) < 0 ? -1 : *a.text() == *b.text() ? 0 : 1;
  if (a.list() && b.list()) {
    const auto &x = a.list()->items, &y = b.list()->items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return compare(x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) fail(std::get<Undefined>(value->storage()).why);
  }
  fail(fmt::format("'<' not supported between instances of '{}' and '{}'", type_name(a),
                   type_name(b)));
}

bool contains(const Value& container, const Value& item) {
  if (const auto* s = container.text()) {
    if (!item.text())
      fail(fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
    return s->find(*item.text()) != std::string::npos;
  }
  if (const Dict* dict = container.dict())
    return item.text() != nullptr && dict->find(*item.text()) != nullptr;
  const auto items = items_of(container);
  return std::ranges::any_of(items, [&](const Value& candidate) { return equal(candidate, item); });
}

std::string to_text(const Value& value) {
  if (value.is_undefined()) return "";
  if (const auto* s = value.text()) return *s;
  return to_repr(value);
}

std::string to_repr(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "None";
  if (const bool* b = value.boolean()) return *b ? "True" : "False";
  if (const auto* i = value.integer()) return std::to_string(*i);
  if (const auto* d = value.real()) return float_text(*d);
  if (const auto* s = value.text()) return quoted(*s);
  std::string out;
  if (const List* list = value.list()) {
    for (const Value& item : list->items)
      append_text(out, (out.empty() ? "" : ", ") + to_repr(item));
    if (list->tuple) return "(" + out + (list->items.size() == 1 ? ",)" : ")");
    return "[" + out + "]";
  }
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, item] : dict->items)
      append_text(out, (out.empty() ? "" : ", ") + quoted(key) + ": " + to_repr(item));
    return dict->is_namespace ? "<Namespace {" + out + "}>" : "{" + out + "}";
  }
  return fmt::format("<function {}>", value.callable()->name);
}

std::string to_json_text(const Value& value, int indent, bool sort_keys) {
  std::string out;
  append_json(out, value, indent, sort_keys, 0);
  return out;
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t n = 1;
    while (i + n < text.size() && (static_cast<unsigned char>(text[i + n]) & 0xC0) == 0x80) ++n;
    out.emplace_back(text.substr(i, n));
    i += n;
  }
  return out;
}

std::vector<Value> items_of(const Value& value) {
  if (value.is_undefined()) return {};
  if (const List* list = value.list()) return list->items;
  std::vector<Value> out;
  if (const auto* s = value.text()) {
    for (std::string& c : characters(*s)) out.emplace_back(std::move(c));
    return out;
  }
  if (const Dict* dict = value.dict(); dict != nullptr && !dict->is_namespace) {
    for (const auto& [key, item] : dict->items) out.emplace_back(key);
    return out;
  }
  fail(fmt::format("'{}' object is not iterable", type_name(value)));
}

std::int64_t length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (const auto* s = value.text()) return static_cast<std::int64_t>(characters(*s).size());
  if (const List* list = value.list()) return static_cast<std::int64_t>(list->items.size());
  if (const Dict* dict = value.dict(); dict != nullptr && !dict->is_namespace)
    return static_cast<std::int64_t>(dict->items.size());
  fail(fmt::format("object of type '{}' has no len()", type_name(value)));
}

std::string type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.boolean()) return "bool";
  if (value.integer()) return "int";
  if (value.real()) return "float";
  if (value.text()) return "str";
  if (value.list()) return value.list()->tuple ? "tuple" : "list";
  if (value.dict()) return value.dict()->is_namespace ? "Namespace" : "dict";
  return "function";
}

std::string_view trimmed(std::string_view text, std::string_view set, bool left, bool right) {
  std::u32string chars;
  for (std::size_t at = 0; at < set.size();) chars += tokenizing::next_code_point(set, at);
  const auto strips = [&](char32_t c) {
    return chars.empty() ? is_space(c) : chars.find(c) != std::u32string::npos;
  };
  while (left && !text.empty()) {
    std::size_t behind = 0;
    if (!strips(tokenizing::next_code_point(text, behind))) break;
    text.remove_prefix(behind);
  }
  while (right && !text.empty()) {
    std::size_t start = text.size();
    if (!strips(tokenizing::previous_code_point(text, start))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string trim(std::string_view text, std::string_view set, bool left, bool right) {
  return std::string(trimmed(text, set, left, right));
}

void append_text(std::string& out, std::string_view text) {
  if (out.size() + text.size() > kTextMax) fail("a string is too long");
  out += text;
}

Value subscript(const Value& object, const Value& key) {
  if (object.is_undefined()) fail(std::get<Undefined>(object.storage()).why);
  if (const Dict* dict = object.dict(); dict != nullptr && key.text()) {
    if (const Value* found = dict->find(*key.text())) return *found;
  }
  if (key.is_integral() && (object.list() || object.text())) {
    const std::int64_t size = length_of(object);
    std::int64_t index = key.integral();
    if (index < 0) index += size;
    if (index >= 0 && index < size) {
      const auto at = static_cast<std::size_t>(index);
      return object.list() ? object.list()->items[at] : Value(characters(*object.text())[at]);
    }
  }
  if (key.text() && !object.dict()) {
    Value found = attribute(object, *key.text());
    if (!found.is_undefined()) return found;
  }
  return Value::undefined(
      fmt::format("'{} object' has no attribute {}", type_name(object), to_repr(key)));
}

Value slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (!object.list() && !object.text()) {
    if (object.is_undefined()) fail(std::get<Undefined>(object.storage()).why);
    return Value::undefined(fmt::format("'{} object' cannot be sliced", type_name(object)));
  }
  const auto items = items_of(object);
  const auto size = static_cast<std::int64_t>(items.size());
  const auto number = [&](const Value& value, std::int64_t standard) {
    if (value.is_none()) return standard;
    if (!value.is_integral()) fail("slice indices must be integers or None");
    return value.integral();
  };
  const std::int64_t by = number(step, 1);
  if (by == 0) fail("slice step cannot be zero");
  const auto clip = [&](std::int64_t i) {
    if (i < 0) i = std::max<std::int64_t>(i, -size) + (i < 0 ? size : 0);
    return i;
  };
  const auto bound = [&](const Value& value, std::int64_t standard) {
    if (value.is_none()) return standard;
    const std::int64_t raw = number(value, 0);
    if (raw < -size) return by > 0 ? std::int64_t{0} : std::int64_t{-1};
    return std::min(clip(raw), by > 0 ? size : size - 1);
  };
  const std::int64_t from = bound(start, by > 0 ? 0 : size - 1),
                     to = bound(stop, by > 0 ? size : -1);
  std::vector<Value> out;
  for (std::int64_t i = from; by > 0 ? i < to : i > to;) {
    out.push_back(items[static_cast<std::size_t>(i)]);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  if (!object.text()) return Value::list(std::move(out), object.list()->tuple);
  std::string text;
  for (const Value& c : out) text += *c.text();
  return text;
}

}  // namespace pd::model::jinja
