// A parsed template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/chat_template/value.h"

namespace pd::model::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind : std::uint8_t {
    kLiteral,    // value
    kName,       // name
    kList,       // arguments; tuple when name is "tuple"
    kDict,       // arguments: key, value, key, value
    kUnary,      // name: "-", "+", "not"; arguments[0]
    kBinary,     // name: the operator, "and", "or"; arguments[0], [1]
    kCompare,    // arguments[0], then one per operator in `operators`
    kCondition,  // arguments: value, condition, otherwise (may be null)
    kAttribute,  // arguments[0].name
    kSubscript,  // arguments[0][arguments[1]]
    kSlice,      // arguments[0][1:2:3], each may be null
    kCall,       // arguments[0](arguments[1...], named)
    kFilter,     // arguments[0] | name(arguments[1...], named)
    kTest,       // arguments[0] is name(arguments[1...])
  };
  Kind kind = Kind::kLiteral;
  int line = 1;
  std::string name;
  Value value;
  std::vector<ExpressionPtr> arguments;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

struct Statement {
  enum class Kind : std::uint8_t {
    kText,
    kOutput,
    kIf,
    kFor,
    kSet,
    kSetBlock,
    kMacro,
    kBreak,
    kContinue,
    kBlock
  };
  Kind kind = Kind::kText;
  int line = 1;
  std::string text;          // kText; kMacro: its name
  ExpressionPtr expression;  // kOutput, kFor: what is iterated; kSet: the value; kIf: see branches
  ExpressionPtr condition;   // kFor: the filter
  std::vector<std::string> targets;  // kFor, kSet: names; "ns.attr" assigns to a namespace
  std::vector<std::pair<ExpressionPtr, Body>> branches;  // kIf; a null condition is else
  Body body;                                             // kFor, kSetBlock, kMacro, kBlock
  Body otherwise;                                        // kFor
  std::vector<std::pair<std::string, ExpressionPtr>>
      parameters;  // kMacro: name and default (may be null)
};

// Errors: TemplateError with the line.
Body parse(std::string_view source);

}  // namespace pd::model::jinja
