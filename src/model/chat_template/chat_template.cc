#include "model/chat_template/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "model/chat_template/ast.h"
#include "model/chat_template/functions.h"

namespace pd::model {
namespace jinja {
namespace {

constexpr std::int64_t kStepsMax = 10'000'000;
constexpr std::int64_t kLoopSteps = 10;  // of one turn of a loop: it makes the 12 values of `loop`
constexpr std::size_t kOutputMax = 64 * 1024 * 1024;
constexpr int kCallDepthMax = 50;  // macros that call macros
constexpr std::size_t kTemplateMax = 1024 * 1024;

enum class Flow : std::uint8_t { kNext, kBreak, kContinue };

using Scope = std::map<std::string, Value, std::less<>>;

class Evaluator {
 public:
  Evaluator(const Json& variables, std::int64_t unix_seconds) {
    scopes_.emplace_back();
    for (auto& [name, function] : global_functions(unix_seconds))
      scopes_[0].emplace(name, std::move(function));
    for (const auto& [name, value] : variables.items())
      scopes_[0].insert_or_assign(name, from_json(value));
    scopes_.emplace_back();  // the template's own
  }

  std::string run(const Body& body) {
    std::string out;
    execute(body, out);
    return out;
  }

 private:
  void step(std::int64_t n = 1) {
    if ((steps_ += n) > kStepsMax) fail("the template takes too many steps");
  }

  // ---- statements ----
  Flow execute(const Body& body, std::string& out) {
    for (const auto& statement : body) {
      step();
      const Flow flow = execute(*statement, out);
      if (out.size() > kOutputMax) fail("the template's output is too long");
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow execute(const Statement& s, std::string& out) {
    using S = Statement::Kind;
    switch (s.kind) {
      case S::kText:
        out += s.text;
        break;
      case S::kOutput:
        out += to_text(evaluate(*s.expression));
        break;
      case S::kIf:
        for (const auto& [condition, body] : s.branches) {
          if (!condition || truthy(evaluate(*condition))) return execute(body, out);
        }
        break;
      case S::kFor:
        loop(s, out);
        break;
      case S::kSet:
        assign(s.targets, evaluate(*s.expression));
        break;
      case S::kSetBlock: {
        std::string text;
        execute(s.body, text);
        assign(s.targets, Value(std::move(text)));
        break;
      }
      case S::kMacro:
        scopes_.back().insert_or_assign(s.text, macro(s));
        break;
      case S::kBlock:
        return execute(s.body, out);
      case S::kBreak:
        return Flow::kBreak;
      case S::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  void assign(const std::vector<std::string>& targets, const Value& value) {
    if (targets.size() == 1) return assign_one(targets[0], value);
    const auto items = items_of(value);
    if (items.size() < targets.size())
      fail(fmt::format("not enough values to unpack (expected {}, got {})", targets.size(),
                       items.size()));
    if (items.size() > targets.size())
      fail(fmt::format("too many values to unpack (expected {})", targets.size()));
    for (std::size_t i = 0; i < targets.size(); ++i) assign_one(targets[i], items[i]);
  }

  void assign_one(const std::string& target, const Value& value) {
    const std::size_t dot = target.find('.');
    if (dot == std::string::npos) {
      scopes_.back().insert_or_assign(target, value);
      return;
    }
    const Value object = lookup(target.substr(0, dot));
    if (!object.dict() || !object.dict()->is_namespace)
      fail("cannot assign attribute on non-namespace object");
    object.dict()->set(target.substr(dot + 1), value);
  }

  void loop(const Statement& s, std::string& out) {
    std::vector<Value> items;
    for (Value& item : items_of(evaluate(*s.expression))) {
      if (s.condition) {
        scopes_.emplace_back();
        assign(s.targets, item);
        const bool keep = truthy(evaluate(*s.condition));
        scopes_.pop_back();
        if (!keep) continue;
      }
      items.push_back(std::move(item));
    }
    if (items.empty()) {
      execute(s.otherwise, out);
      return;
    }
    ++loop_depth_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      step(kLoopSteps);
      scopes_.emplace_back();
      scopes_.back().insert_or_assign("loop", loop_variable(items, i));
      assign(s.targets, items[i]);
      const Flow flow = execute(s.body, out);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    --loop_depth_;
  }

  Value loop_variable(const std::vector<Value>& items, std::size_t i) const {
    const auto index = static_cast<std::int64_t>(i), size = static_cast<std::int64_t>(items.size());
    auto loop = std::make_shared<Dict>();
    loop->items = {
        {"index", index + 1},
        {"index0", index},
        {"revindex", size - index},
        {"revindex0", size - index - 1},
        {"first", i == 0},
        {"last", i + 1 == items.size()},
        {"length", size},
        {"depth", std::int64_t{loop_depth_}},
        {"depth0", std::int64_t{loop_depth_ - 1}},
        {"previtem", i > 0 ? items[i - 1] : Value::undefined("there is no previous item")},
        {"nextitem",
         i + 1 < items.size() ? items[i + 1] : Value::undefined("there is no next item")},
        {"cycle", Value::callable("cycle", [i](Arguments arguments, NamedArguments) {
           if (arguments.empty()) fail("no items for cycling given");
           return arguments[i % arguments.size()];
         })}};
    loop->is_namespace = true;  // its names are attributes, not methods of a dictionary
    return Value(loop);
  }

  // Sees the variables of the template's top level and its own parameters.
  Value macro(const Statement& s) {
    return Value::callable(s.text, [this, &s](Arguments arguments, NamedArguments named) {
      if (++call_depth_ > kCallDepthMax) fail("macros call each other too deeply");
      if (arguments.size() > s.parameters.size())
        fail(fmt::format("macro '{}' takes not more than {} argument(s)", s.text,
                         s.parameters.size()));
      const auto local = scopes_.begin() + 2;
      std::vector<Scope> outer(std::make_move_iterator(local),
                               std::make_move_iterator(scopes_.end()));
      scopes_.erase(local, scopes_.end());
      scopes_.emplace_back();
      for (std::size_t i = 0; i < s.parameters.size(); ++i) bind(s, i, arguments, named);
      for (const auto& [name, value] : named) {
        const bool known = std::ranges::any_of(
            s.parameters, [&key = name](const auto& p) { return p.first == key; });
        if (!known) fail(fmt::format("macro '{}' takes no keyword argument '{}'", s.text, name));
      }
      std::string out;
      execute(s.body, out);
      scopes_.pop_back();
      std::ranges::move(outer, std::back_inserter(scopes_));
      --call_depth_;
      return Value(std::move(out));
    });
  }

  void bind(const Statement& s, std::size_t i, const Arguments& arguments,
            const NamedArguments& named) {
    const auto& [name, standard] = s.parameters[i];
    Value value = Value::undefined(fmt::format("parameter '{}' was not provided", name));
    if (i < arguments.size()) {
      value = arguments[i];
    } else if (const auto given =
                   std::ranges::find(named, name, &NamedArguments::value_type::first);
               given != named.end()) {
      value = given->second;
    } else if (standard) {
      value = evaluate(*standard);
    }
    scopes_.back().insert_or_assign(name, std::move(value));
  }

  // ---- expressions ----
  Value lookup(std::string_view name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    return Value::undefined(fmt::format("'{}' is undefined", name));
  }

  Value optional(const ExpressionPtr& e) { return e ? evaluate(*e) : Value(); }

  Value evaluate(const Expression& e) {
    step();
    using E = Expression::Kind;
    switch (e.kind) {
      case E::kLiteral:
        return e.value;
      case E::kName:
        return lookup(e.name);
      case E::kList: {
        std::vector<Value> items;
        for (const auto& item : e.arguments) items.push_back(evaluate(*item));
        return Value::list(std::move(items), e.name == "tuple");
      }
      case E::kDict:
        return dictionary(e);
      case E::kUnary:
        return unary(e);
      case E::kBinary:
        return binary(e);
      case E::kCompare:
        return comparison(e);
      case E::kCondition:
        if (truthy(evaluate(*e.arguments[1]))) return evaluate(*e.arguments[0]);
        if (e.arguments[2]) return evaluate(*e.arguments[2]);
        return Value::undefined(
            "the inline if-expression evaluated to false and no else section was defined.");
      case E::kAttribute:
        return attribute(evaluate(*e.arguments[0]), e.name);
      case E::kSubscript: {
        const Value object = evaluate(*e.arguments[0]);
        return subscript(object, evaluate(*e.arguments[1]));
      }
      case E::kSlice: {
        const Value object = evaluate(*e.arguments[0]);
        const Value start = optional(e.arguments[1]), stop = optional(e.arguments[2]),
                    by = optional(e.arguments[3]);
        return slice(object, start, stop, by);
      }
      case E::kCall:
        return call(e);
      case E::kFilter:
        return apply_filter(e.name, values(e.arguments, 0), named_values(e));
      case E::kTest:
        return apply_test(e.name, values(e.arguments, 0));
    }
    return None{};
  }

  Arguments values(const std::vector<ExpressionPtr>& expressions, std::size_t from) {
    Arguments out;
    for (std::size_t i = from; i < expressions.size(); ++i)
      out.push_back(evaluate(*expressions[i]));
    return out;
  }
  NamedArguments named_values(const Expression& e) {
    NamedArguments out;
    for (const auto& [name, expression] : e.named) out.emplace_back(name, evaluate(*expression));
    return out;
  }

  Value dictionary(const Expression& e) {
    auto out = std::make_shared<Dict>();
    for (std::size_t i = 0; i + 1 < e.arguments.size(); i += 2) {
      const Value key = evaluate(*e.arguments[i]);
      if (!key.text()) fail("a dictionary's keys must be strings");
      out->set(*key.text(), evaluate(*e.arguments[i + 1]));
    }
    return Value(out);
  }

  Value unary(const Expression& e) {
    const Value value = evaluate(*e.arguments[0]);
    if (e.name == "not") return !truthy(value);
    if (value.is_undefined()) fail(std::get<Undefined>(value.storage()).why);
    if (!value.is_number())
      fail(fmt::format("bad operand type for unary {}: '{}'", e.name, type_name(value)));
    return value.real() ? Value(e.name == "-" ? -*value.real() : *value.real())
                        : arithmetic(e.name, 0, value);
  }

  Value binary(const Expression& e) {
    Value left = evaluate(*e.arguments[0]);
    if (e.name == "and") return truthy(left) ? evaluate(*e.arguments[1]) : left;
    if (e.name == "or") return truthy(left) ? left : evaluate(*e.arguments[1]);
    const Value right = evaluate(*e.arguments[1]);
    return arithmetic(e.name, left, right);
  }

  Value comparison(const Expression& e) {
    Value left = evaluate(*e.arguments[0]);
    for (std::size_t i = 0; i < e.operators.size(); ++i) {
      Value right = evaluate(*e.arguments[i + 1]);
      if (!holds(e.operators[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  static bool holds(std::string_view op, const Value& a, const Value& b) {
    if (op == "==") return equal(a, b);
    if (op == "!=") return !equal(a, b);
    if (op == "in") return contains(b, a);
    if (op == "not in") return !contains(b, a);
    const int order = compare(a, b);
    return op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
  }

  Value call(const Expression& e) {
    const Value function = evaluate(*e.arguments[0]);
    if (function.is_undefined()) fail(std::get<Undefined>(function.storage()).why);
    if (!function.callable()) fail(fmt::format("'{}' object is not callable", type_name(function)));
    return function.callable()->call(values(e.arguments, 1), named_values(e));
  }

  std::vector<Scope> scopes_;
  std::int64_t steps_ = 0;
  int call_depth_ = 0;
  int loop_depth_ = 0;
};

}  // namespace
}  // namespace jinja

struct ChatTemplate::Impl {
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  if (source.size() > jinja::kTemplateMax) {
    return error(ErrorCode::kTooLarge, fmt::format("chat template: {} bytes, at most {}",
                                                   source.size(), jinja::kTemplateMax));
  }
  try {
    return ChatTemplate(std::make_unique<const Impl>(Impl{jinja::parse(source)}));
  } catch (const jinja::TemplateError& wrong) {
    return error(wrong.code, wrong.what());
  }
}

Result<std::string> ChatTemplate::render(const Json& variables, std::int64_t unix_seconds) const {
  if (!variables.is_object())
    return error(ErrorCode::kInvalidArgument, "the template's variables must be a JSON object");
  try {
    return jinja::Evaluator(variables, unix_seconds).run(impl_->body);
  } catch (const jinja::TemplateError& wrong) {
    return error(wrong.code, wrong.what());
  }
}

}  // namespace pd::model
