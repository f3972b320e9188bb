// A JSON object being read field by field: each field is asked for by name, and what nobody asked
// for is refused at the end. Keeps the first error only. Over simdjson's document; its headers stay
// in .cc files.
#pragma once

#include <simdjson.h>

#include <expected>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/api_error.h"

namespace pd::protocol {

// How much JSON whose fields nobody here knows may be: work grows with the bytes, never faster.
struct JsonBounds {
  int depth_max = 64;
  int keys_max = 1024;  // of one object
};

class JsonObject {
 public:
  using Element = simdjson::dom::element;
  JsonObject(simdjson::dom::object object, const JsonBounds& bounds);

  // The field's value; nullopt when absent or null.
  std::optional<Element> find(std::string_view name);
  std::optional<std::string> string(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  // JSON knows one kind of number: 16.0 is an integer.
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high);
  std::optional<double> number(std::string_view name, double low, double high);
  std::optional<nlohmann::ordered_json> json(std::string_view name);
  // Marks fields as read whose value changes nothing; an error if it has not the field's type.
  void label(std::string_view name);
  void label(std::string_view name, std::initializer_list<std::string_view> values);  // one of them
  void flag(std::string_view name);
  void labels(std::string_view name);  // an object of strings
  // Marks fields as read without a look at them.
  void ignore(std::initializer_list<std::string_view> names);
  // An error unless the field is absent, null, or `harmless` says that its value changes nothing.
  void unsupported(std::string_view name, std::string_view why,
                   bool (*harmless)(Element) = nullptr);

  void fail(ApiError error) {
    if (!error_) error_ = std::move(error);
  }
  bool ok() const { return !error_.has_value(); }
  // The first error; otherwise an error for the first field nobody asked for.
  std::optional<ApiError> finish();

 private:
  // Few, so looked through for each that is asked for.
  struct Field {
    std::string_view name;
    Element value;
    bool known = false;  // asked for
  };
  std::vector<Field> fields_;
  JsonBounds bounds_;
  std::optional<ApiError> error_;
};

// The value if it is a whole number of 64 bits, however it is written; as a fraction or with an
// exponent only where every whole number has its own double.
std::optional<std::int64_t> whole_number(simdjson::dom::element value);

// Parses one body. The memory comes from the thread's last small one and goes to its next: taking
// it anew and giving it back costs as much as parsing a short request.
class BodyParser {
 public:
  BodyParser();
  ~BodyParser();
  BodyParser(const BodyParser&) = delete;
  BodyParser& operator=(const BodyParser&) = delete;

  simdjson::dom::parser& parser() { return parser_; }

 private:
  simdjson::dom::parser parser_;
};

// A whole body that must be one JSON object. `parser` owns what the object refers to. Integers of
// more than 64 bits are read as doubles, so that the field that cannot hold one is named; in large
// bodies they are an error, as are all numbers whose reading takes long.
ApiResult<simdjson::dom::object> parse_object(BodyParser& parser, std::string_view body);

// A key that is given twice keeps its first place and its last value. The error says what is beyond
// the bounds: "is nested deeper than 64 levels".
std::expected<nlohmann::ordered_json, std::string> to_ordered_json(simdjson::dom::element element,
                                                                   const JsonBounds& bounds);

}  // namespace pd::protocol
