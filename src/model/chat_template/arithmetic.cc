#include <fmt/format.h>

#include <cmath>

#include "model/chat_template/value.h"

namespace pd::model::jinja {
namespace {

constexpr std::size_t kListMax = 1'000'000;

[[noreturn]] void bad_operands(std::string_view op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) fail(std::get<Undefined>(value->storage()).why);
  }
  fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", op, type_name(a),
                   type_name(b)));
}

Value repeated(const Value& thing, std::int64_t times) {
  const auto fits = [&](std::size_t size, std::size_t limit) {
    return size <= limit / static_cast<std::size_t>(times);
  };
  if (const auto* s = thing.text()) {
    std::string out;
    if (times <= 0 || s->empty()) return out;
    if (!fits(s->size(), kTextMax)) fail("a repeated string is too long");
    for (std::int64_t i = 0; i < times; ++i) out += *s;
    return out;
  }
  std::vector<Value> out;
  const auto& items = thing.list()->items;
  if (times <= 0 || items.empty()) return Value::list({}, thing.list()->tuple);
  if (!fits(items.size(), kListMax) ||
      !fits(static_cast<std::size_t>(thing.list()->extent.size), kSizeMax))
    fail("a repeated list is too long");
  for (std::int64_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  return Value::list(std::move(out), thing.list()->tuple);
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

// By squaring; true: it overflows.
bool power_overflows(std::int64_t base, std::int64_t exponent, std::int64_t* out) {
  bool overflow = false;
  for (*out = 1;; overflow |= __builtin_mul_overflow(base, base, &base)) {
    if (exponent % 2 != 0) overflow |= __builtin_mul_overflow(*out, base, out);
    exponent /= 2;
    if (exponent == 0) return overflow;
  }
}

Value integer_arithmetic(std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+")
    overflow = __builtin_add_overflow(a, b, &out);
  else if (op == "-")
    overflow = __builtin_sub_overflow(a, b, &out);
  else if (op == "*")
    overflow = __builtin_mul_overflow(a, b, &out);
  else if (op == "//" || op == "%") {
    if (b == 0) fail(op == "%" ? "integer modulo by zero" : "integer division or modulo by zero");
    if (b == -1) return op == "%" ? Value(0) : integer_arithmetic("-", 0, a);
    out = op == "//" ? floor_div(a, b) : a - floor_div(a, b) * b;
  } else if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    overflow = power_overflows(a, b, &out);
  }
  if (overflow) fail("an integer leaves the range of 64 bits");
  return out;
}

Value joined(std::string left, std::string_view right) {
  append_text(left, right);
  return left;
}

Value real_arithmetic(std::string_view op, double a, double b) {
  if ((op == "/" || op == "//" || op == "%") && b == 0)
    fail(op == "/" ? "division by zero" : "float floor division by zero");
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  if (op == "%") return a - std::floor(a / b) * b;
  return std::pow(a, b);
}

}  // namespace

Value arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (op == "~") return joined(to_text(a), to_text(b));
  if (op == "+" && a.text() && b.text()) return joined(*a.text(), *b.text());
  if (op == "+" && a.list() && b.list() && a.list()->tuple == b.list()->tuple) {
    if (a.list()->items.size() + b.list()->items.size() > kListMax) fail("a list is too long");
    auto items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    return Value::list(std::move(items), a.list()->tuple);
  }
  if (op == "*" && b.is_integral() && (a.text() || a.list())) return repeated(a, b.integral());
  if (op == "*" && a.is_integral() && (b.text() || b.list())) return repeated(b, a.integral());
  if (!a.is_number() || !b.is_number()) bad_operands(op, a, b);
  if (op != "/" && a.is_integral() && b.is_integral())
    return integer_arithmetic(op, a.integral(), b.integral());
  return real_arithmetic(op, as_double(a), as_double(b));
}

}  // namespace pd::model::jinja
