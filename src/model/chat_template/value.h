// Values of the template language, with Python's semantics where a template can see them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "model/chat_template/chat_template.h"

namespace pd::model::jinja {

// What is wrong with a template or its variables. Internal to this folder: parse() and render()
// turn it into Error.
class TemplateError : public std::runtime_error {
 public:
  TemplateError(ErrorCode error_code, const std::string& message)
      : std::runtime_error(message), code(error_code) {}
  ErrorCode code;
};
[[noreturn]] inline void fail(const std::string& message) {
  throw TemplateError(ErrorCode::kInvalidArgument, message);
}

constexpr std::size_t kTextMax = 64 * 1024 * 1024;  // of one string
constexpr std::int64_t kSizeMax = 1 << 24;  // of an Extent; a body of 10 MiB has 5 million values

class Value;
struct Undefined {
  std::string why;  // what using it says: "'x' is undefined"
};
struct None {};
// What a list or dictionary holds on all its levels. Values share what they hold, so a short
// template could make one that takes for ever to walk or to free, or that holds itself; add()
// fails before.
struct Extent {
  std::int64_t size = 0;  // values, and of texts 64 bytes count as one
  int depth = 0;
  bool namespaces = false;  // is one or holds one
  void add(const Value& value);
};
struct List {
  std::vector<Value> items;
  bool tuple = false;
  Extent extent{};
};
// A namespace is the only value that changes once it is made: it holds no other, and is one level
// of size 1 for what holds it.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;  // in order of insertion
  bool is_namespace = false;
  Extent extent{};
  const Value* find(std::string_view key) const;
  void set(const std::string& key, Value value);
  void append(const std::string& key, Value value);  // of a new key

 private:
  void hold(const Value& value);
};
using Arguments = std::vector<Value>;
using NamedArguments = std::vector<std::pair<std::string, Value>>;
struct Callable {
  std::string name;
  std::function<Value(Arguments args, NamedArguments named)> call;
  Extent extent{};  // of what it is bound to
};

class Value {
 public:
  using Storage =
      std::variant<Undefined, None, bool, std::int64_t, double, std::string, std::shared_ptr<List>,
                   std::shared_ptr<Dict>, std::shared_ptr<Callable>>;
  Value() : storage_(None{}) {}
  // Implicit, as a template's values are.
  // NOLINTBEGIN(google-explicit-constructor)
  template <typename T>
    requires std::is_constructible_v<Storage, T>
  Value(T value) : storage_(std::move(value)) {}
  Value(const char* text) : storage_(std::string(text)) {}
  Value(int number) : storage_(std::int64_t{number}) {}
  // NOLINTEND(google-explicit-constructor)
  static Value undefined(std::string why) { return Value(Undefined{std::move(why)}); }
  static Value list(std::vector<Value> items, bool tuple = false) {
    Extent extent{};
    for (const Value& item : items) extent.add(item);
    return Value(std::make_shared<List>(List{std::move(items), tuple, extent}));
  }
  static Value callable(std::string name, std::function<Value(Arguments, NamedArguments)> call,
                        const Extent& extent = {}) {
    return Value(std::make_shared<Callable>(Callable{std::move(name), std::move(call), extent}));
  }

  bool is_undefined() const { return std::holds_alternative<Undefined>(storage_); }
  bool is_none() const { return std::holds_alternative<None>(storage_); }
  const bool* boolean() const { return std::get_if<bool>(&storage_); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&storage_); }
  const double* real() const { return std::get_if<double>(&storage_); }
  const std::string* text() const { return std::get_if<std::string>(&storage_); }
  List* list() const { return get_pointer<List>(); }
  Dict* dict() const { return get_pointer<Dict>(); }
  Callable* callable() const { return get_pointer<Callable>(); }
  bool is_integral() const { return boolean() || integer(); }
  std::int64_t integral() const { return boolean() ? *boolean() : *integer(); }
  bool is_number() const { return is_integral() || real(); }
  const Storage& storage() const { return storage_; }

 private:
  template <typename T>
  T* get_pointer() const {
    const auto* pointer = std::get_if<std::shared_ptr<T>>(&storage_);
    return pointer == nullptr ? nullptr : pointer->get();
  }
  Storage storage_;
};

inline const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name == key) return &value;
  }
  return nullptr;
}
Value from_json(const Json& json);
bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
// -1, 0, 1; fails for what Python does not order.
int compare(const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);
std::string to_text(const Value& value);  // str()
std::string to_repr(const Value& value);  // repr()
// json.dumps(value, ensure_ascii=False); indent < 0: one line.
std::string to_json_text(const Value& value, int indent, bool sort_keys);
std::vector<Value> items_of(const Value& value);  // iteration; fails for what cannot be iterated
std::int64_t length_of(const Value& value);
double as_double(const Value& value);       // fails for what is no number
std::string type_name(const Value& value);  // Python's: "str", "int", ...

std::vector<std::string> characters(std::string_view text);  // one string a code point
std::string_view trimmed(std::string_view text, std::string_view set, bool left,
                         bool right);  // empty set: white space
std::string trim(std::string_view text, std::string_view set, bool left, bool right);
// Fails rather than let `out` grow beyond kTextMax.
void append_text(std::string& out, std::string_view text);

// Results of operators; `op` as written.
Value arithmetic(std::string_view op, const Value& a, const Value& b);
Value subscript(const Value& object, const Value& key);
Value attribute(const Value& object, const std::string& name);
Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);

}  // namespace pd::model::jinja
