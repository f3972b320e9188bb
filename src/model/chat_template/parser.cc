#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "model/chat_template/ast.h"
#include "model/chat_template/functions.h"
#include "model/chat_template/lexer.h"

namespace pd::model::jinja {
namespace {

using Kind = Token::Kind;
using E = Expression::Kind;
using S = Statement::Kind;

constexpr int kDepthMax = 100;  // of nested expressions and blocks: recursion follows it

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Body run() {
    Body body = statements({});
    if (peek().kind != Kind::kEnd) wrong("unexpected end of a block");
    return body;
  }

 private:
  // ---- tokens ----
  const Token& peek(std::size_t n = 0) const {
    return tokens_[std::min(at_ + n, tokens_.size() - 1)];
  }
  Token take() { return tokens_[std::min(at_++, tokens_.size() - 1)]; }
  bool is(std::string_view text) const {
    return (peek().kind == Kind::kOperator || peek().kind == Kind::kName) && peek().text == text;
  }
  bool accept(std::string_view text) {
    if (!is(text)) return false;
    ++at_;
    return true;
  }
  void expect(std::string_view text) {
    if (!accept(text)) wrong(fmt::format("expected '{}' before '{}'", text, peek().text));
  }
  void expect(Kind kind, const char* what) {
    if (peek().kind != kind) wrong(fmt::format("expected {} before '{}'", what, peek().text));
    ++at_;
  }
  std::string name() {
    if (peek().kind != Kind::kName) wrong(fmt::format("expected a name before '{}'", peek().text));
    return take().text;
  }
  [[noreturn]] void wrong(const std::string& what) const {
    fail(fmt::format("template line {}: {}", peek().line, what));
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw TemplateError(ErrorCode::kUnsupported,
                        fmt::format("template line {}: {} is not supported", peek().line, what));
  }
  struct Depth {
    explicit Depth(Parser& parser) : count(parser.depth_) {
      if (++count > kDepthMax) parser.wrong("nested too deeply");
    }
    ~Depth() { --count; }
    int& count;
  };
  ExpressionPtr make(E kind, std::string text = {}) const {
    auto out = std::make_unique<Expression>();
    out->kind = kind;
    out->line = peek().line;
    out->name = std::move(text);
    return out;
  }
  template <typename... Arguments>
  ExpressionPtr make(E kind, std::string text, Arguments... arguments) const {
    auto out = make(kind, std::move(text));
    (out->arguments.push_back(std::move(arguments)), ...);
    return out;
  }

  // ---- statements ----
  // Up to one of the block names in `ends`, whose "{% name" is then consumed and stored in
  // ended_by_.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Depth guard(*this);
    Body out;
    while (peek().kind != Kind::kEnd) {
      auto statement = std::make_unique<Statement>();
      statement->line = peek().line;
      if (peek().kind == Kind::kText) {
        statement->text = take().text;
      } else if (peek().kind == Kind::kOpenOutput) {
        ++at_;
        statement->kind = S::kOutput;
        statement->expression = tuple_or_one();
        expect(Kind::kCloseOutput, "'}}'");
      } else {
        expect(Kind::kOpenBlock, "'{%'");
        const std::string keyword = name();
        if (std::ranges::find(ends, keyword) != ends.end()) {
          ended_by_ = keyword;
          return out;
        }
        block(keyword, *statement);
      }
      out.push_back(std::move(statement));
    }
    if (ends.size() > 0)
      wrong(fmt::format("a block is not closed: '{}' is missing", *(ends.end() - 1)));
    return out;
  }

  void close_block() { expect(Kind::kCloseBlock, "'%}'"); }

  void block(const std::string& keyword, Statement& out) {
    if (keyword == "if") return if_block(out);
    if (keyword == "for") return for_block(out);
    if (keyword == "set") return set_block(out);
    if (keyword == "macro") return macro_block(out);
    if (keyword == "break" || keyword == "continue") {
      if (loops_ == 0) wrong(fmt::format("'{}' outside of a loop", keyword));
      out.kind = keyword == "break" ? S::kBreak : S::kContinue;
      return close_block();
    }
    if (keyword == "generation") {  // marks what the assistant says; renders as its body
      close_block();
      out.kind = S::kBlock;
      out.body = statements({"endgeneration"});
      return close_block();
    }
    for (const char* known : {"block", "call", "extends", "filter", "from", "import", "include",
                              "do", "with", "autoescape", "trans"}) {
      if (keyword == known) unsupported(fmt::format("the tag '{}'", keyword));
    }
    wrong(fmt::format("unknown tag '{}'", keyword));
  }

  void if_block(Statement& out) {
    out.kind = S::kIf;
    ExpressionPtr condition = expression();
    close_block();
    while (true) {
      Body body = condition ? statements({"elif", "else", "endif"}) : statements({"endif"});
      out.branches.emplace_back(std::move(condition), std::move(body));
      const std::string how = ended_by_;
      if (how == "elif")
        condition = expression();
      else
        condition.reset();
      close_block();
      if (how == "endif") return;
    }
  }

  void for_block(Statement& out) {
    out.kind = S::kFor;
    const bool brackets = accept("(");
    do out.targets.push_back(name());
    while (accept(",") && !is("in") && !is(")"));
    if (brackets) expect(")");
    expect("in");
    out.expression = or_expression_list();
    if (accept("if")) out.condition = expression();
    if (is("recursive")) unsupported("a recursive loop");
    close_block();
    ++loops_;
    out.body = statements({"else", "endfor"});
    --loops_;
    if (ended_by_ == "else") {
      close_block();
      out.otherwise = statements({"endfor"});
    }
    close_block();
  }

  void set_block(Statement& out) {
    do {
      std::string target = name();
      if (accept(".")) target += "." + name();
      out.targets.push_back(std::move(target));
    } while (accept(","));
    if (accept("=")) {
      out.kind = S::kSet;
      out.expression = tuple_or_one();
      return close_block();
    }
    if (is("|")) unsupported("a filtered set block");
    out.kind = S::kSetBlock;
    close_block();
    out.body = statements({"endset"});
    close_block();
  }

  void macro_block(Statement& out) {
    out.kind = S::kMacro;
    out.text = name();
    expect("(");
    while (!accept(")")) {
      std::string parameter = name();
      out.parameters.emplace_back(std::move(parameter), accept("=") ? expression() : nullptr);
      if (!is(")")) expect(",");
    }
    close_block();
    const int loops = std::exchange(loops_, 0);
    out.body = statements({"endmacro"});
    loops_ = loops;
    close_block();
  }

  // ---- expressions, loosest binding first ----
  ExpressionPtr tuple_or_one() {
    ExpressionPtr first = expression();
    if (!is(",")) return first;
    ExpressionPtr tuple = make(E::kList, "tuple");
    tuple->arguments.push_back(std::move(first));
    while (accept(",")) {
      if (peek().kind == Kind::kCloseOutput || peek().kind == Kind::kCloseBlock || is(")")) break;
      tuple->arguments.push_back(expression());
    }
    return tuple;
  }

  // What a loop runs over: no ternary without brackets, because "if" begins the loop's filter.
  ExpressionPtr or_expression_list() { return or_expression(); }

  ExpressionPtr expression() {
    const Depth guard(*this);
    ExpressionPtr value = or_expression();
    while (accept("if")) {
      ExpressionPtr condition = or_expression();
      ExpressionPtr otherwise = accept("else") ? expression() : nullptr;
      value = make(E::kCondition, "", std::move(value), std::move(condition), std::move(otherwise));
    }
    return value;
  }

  ExpressionPtr or_expression() {
    ExpressionPtr left = and_expression();
    while (accept("or")) left = make(E::kBinary, "or", std::move(left), and_expression());
    return left;
  }
  ExpressionPtr and_expression() {
    ExpressionPtr left = not_expression();
    while (accept("and")) left = make(E::kBinary, "and", std::move(left), not_expression());
    return left;
  }
  ExpressionPtr not_expression() {
    const Depth guard(*this);
    if (accept("not")) return make(E::kUnary, "not", not_expression());
    return comparison();
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    ExpressionPtr chain;
    while (true) {
      std::string op;
      for (const char* candidate : {"==", "!=", "<=", ">=", "<", ">", "in"}) {
        if (op.empty() && accept(candidate)) op = candidate;
      }
      if (op.empty() && is("not") && peek(1).text == "in" && peek(1).kind == Kind::kName) {
        at_ += 2;
        op = "not in";
      }
      if (op.empty()) break;
      if (!chain) chain = make(E::kCompare, "", std::move(left));
      chain->operators.push_back(op);
      chain->arguments.push_back(sum());
    }
    return chain ? std::move(chain) : std::move(left);
  }

  ExpressionPtr sum() {
    ExpressionPtr left = concatenation();
    while (is("+") || is("-")) {
      std::string op = take().text;
      left = make(E::kBinary, std::move(op), std::move(left), concatenation());
    }
    return left;
  }
  ExpressionPtr concatenation() {
    ExpressionPtr left = product();
    while (accept("~")) left = make(E::kBinary, "~", std::move(left), product());
    return left;
  }
  ExpressionPtr product() {
    ExpressionPtr left = power();
    while (is("*") || is("/") || is("//") || is("%")) {
      std::string op = take().text;
      left = make(E::kBinary, std::move(op), std::move(left), power());
    }
    return left;
  }
  ExpressionPtr power() {
    ExpressionPtr left = unary(true);
    while (accept("**")) left = make(E::kBinary, "**", std::move(left), unary(true));
    return left;
  }

  ExpressionPtr unary(bool with_filters) {
    const Depth guard(*this);
    ExpressionPtr out;
    if (is("-") || is("+")) {
      std::string op = take().text;
      out = make(E::kUnary, std::move(op), unary(false));
    } else {
      out = primary();
    }
    out = postfix(std::move(out));
    return with_filters ? filters(std::move(out)) : std::move(out);
  }

  ExpressionPtr primary() {
    const Token token = peek();
    ExpressionPtr out = make(E::kLiteral);
    switch (token.kind) {
      case Kind::kString: {
        std::string text;
        while (peek().kind == Kind::kString) text += take().text;  // adjacent strings join
        out->value = std::move(text);
        return out;
      }
      case Kind::kInteger: {
        std::int64_t number = 0;
        const auto [end, code] =
            std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
        if (code != std::errc()) wrong("an integer does not fit into 64 bits");
        ++at_;
        out->value = number;
        return out;
      }
      case Kind::kFloat: {
        double number = 0;
        std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
        ++at_;
        out->value = number;
        return out;
      }
      case Kind::kName:
        return name_or_constant();
      default:
        break;
    }
    if (accept("(")) {
      if (accept(")")) return make(E::kList, "tuple");
      out = tuple_or_one();
      expect(")");
      return out;
    }
    if (accept("[")) return list_literal();
    if (accept("{")) return dict_literal();
    wrong(fmt::format("unexpected '{}'", token.text));
  }

  ExpressionPtr name_or_constant() {
    ExpressionPtr out = make(E::kLiteral);
    const std::string word = take().text;
    if (word == "true" || word == "True")
      out->value = true;
    else if (word == "false" || word == "False")
      out->value = false;
    else if (word != "none" && word != "None") {
      for (const char* keyword : {"in", "is", "not", "and", "or", "if", "else"}) {
        if (word == keyword) wrong(fmt::format("unexpected '{}'", word));
      }
      out->kind = E::kName;
      out->name = word;
    }
    return out;
  }

  ExpressionPtr list_literal() {
    ExpressionPtr out = make(E::kList);
    while (!accept("]")) {
      out->arguments.push_back(expression());
      if (!is("]")) expect(",");
    }
    return out;
  }
  ExpressionPtr dict_literal() {
    ExpressionPtr out = make(E::kDict);
    while (!accept("}")) {
      out->arguments.push_back(expression());
      expect(":");
      out->arguments.push_back(expression());
      if (!is("}")) expect(",");
    }
    return out;
  }

  ExpressionPtr postfix(ExpressionPtr out) {
    while (true) {
      if (accept(".")) {
        if (peek().kind == Kind::kInteger) {
          ExpressionPtr index = primary();
          out = make(E::kSubscript, "", std::move(out), std::move(index));
        } else {
          std::string attribute_name = name();
          out = make(E::kAttribute, std::move(attribute_name), std::move(out));
        }
      } else if (accept("[")) {
        out = subscript_or_slice(std::move(out));
      } else if (is("(")) {
        out = make(E::kCall, "", std::move(out));
        call_arguments(*out);
      } else {
        return out;
      }
    }
  }

  ExpressionPtr subscript_or_slice(ExpressionPtr object) {
    ExpressionPtr parts[3];
    int part = 0;
    bool colon = false;
    while (!is("]")) {
      if (accept(":")) {
        colon = true;
        if (++part > 2) wrong("a slice has at most three parts");
      } else {
        parts[part] = expression();
        if (!is(":") && !is("]")) wrong(fmt::format("unexpected '{}' in a subscript", peek().text));
      }
    }
    expect("]");
    if (!colon && !parts[0]) wrong("an empty subscript");
    if (!colon) return make(E::kSubscript, "", std::move(object), std::move(parts[0]));
    return make(E::kSlice, "", std::move(object), std::move(parts[0]), std::move(parts[1]),
                std::move(parts[2]));
  }

  void call_arguments(Expression& call) {
    expect("(");
    while (!accept(")")) {
      if (is("*") || is("**")) unsupported("argument unpacking");
      if (peek().kind == Kind::kName && peek(1).kind == Kind::kOperator && peek(1).text == "=") {
        std::string argument = name();
        ++at_;
        call.named.emplace_back(std::move(argument), expression());
      } else {
        if (!call.named.empty()) wrong("a positional argument after a named one");
        call.arguments.push_back(expression());
      }
      if (!is(")")) expect(",");
    }
  }

  ExpressionPtr filters(ExpressionPtr out) {
    while (true) {
      if (accept("|")) {
        std::string filter = name();
        while (accept(".")) filter += "." + name();
        if (!is_filter(filter)) unsupported(fmt::format("the filter '{}'", filter));
        out = make(E::kFilter, std::move(filter), std::move(out));
        if (is("(")) call_arguments(*out);
      } else if (accept("is")) {
        out = test(std::move(out));
      } else if (is("(")) {
        out = make(E::kCall, "", std::move(out));
        call_arguments(*out);
      } else {
        return out;
      }
    }
  }

  ExpressionPtr test(ExpressionPtr object) {
    const bool negated = accept("not");
    std::string which = name();
    if (!is_test(which)) unsupported(fmt::format("the test '{}'", which));
    ExpressionPtr out = make(E::kTest, std::move(which), std::move(object));
    const Token& next = peek();
    const bool word = next.kind == Kind::kName;
    bool keyword = false;
    for (const char* k : {"else", "or", "and", "is", "if", "in", "not"})
      keyword |= word && next.text == k;
    if (is("(")) {
      call_arguments(*out);
    } else if ((word && !keyword) || next.kind == Kind::kString || next.kind == Kind::kInteger ||
               next.kind == Kind::kFloat || is("[") || is("{")) {
      out->arguments.push_back(postfix(primary()));
    }
    return negated ? make(E::kUnary, "not", std::move(out)) : std::move(out);
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
  std::string ended_by_;
};

}  // namespace

Body parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace pd::model::jinja
