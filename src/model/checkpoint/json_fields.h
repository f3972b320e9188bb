// Typed, range-checked reading of one JSON object's fields. The first problem sticks and every
// later read returns its default, so that a reader states its fields in a row and asks once at the
// end.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace pd::model {

class JsonFields {
 public:
  // `where` begins every message: the file, and for an inner object its key ("config.json:
  // rope_scaling"). `object` (anything but a JSON object is an error) must outlive this.
  JsonFields(const nlohmann::json& object, std::string where);

  struct Range {
    std::int64_t low = 1;
    std::int64_t high = 1;
  };
  // null counts as absent except for is_null().
  bool has(std::string_view key) const;
  bool is_null(std::string_view key) const;

  std::int64_t integer(std::string_view key, Range range);  // required
  std::int64_t integer_or(std::string_view key, Range range, std::int64_t fallback);
  double number(std::string_view key, double low, double high);  // required; exclusive bounds
  double number_or(std::string_view key, double low, double high, double fallback);
  bool boolean_or(std::string_view key, bool fallback);
  std::string text_or(std::string_view key, std::string_view fallback);
  std::vector<std::string> texts(std::string_view key);  // absent: none
  // An id or a list of ids; absent: none.
  std::vector<TokenId> token_ids(std::string_view key, std::int64_t vocab);
  const nlohmann::json* object(std::string_view key);  // nullptr: absent

  void fail(std::string_view key, std::string_view problem, ErrorCode code = ErrorCode::kCorrupt);
  void adopt(const JsonFields& inner);  // takes over the problem of an inner object
  Status status() const;
  std::string where_of(std::string_view key) const;  // the `where` of an inner object

 private:
  const nlohmann::json* find(std::string_view key) const;  // nullptr: absent or null
  void require(std::string_view key);
  const nlohmann::json& object_;
  std::string where_;
  std::optional<Error> problem_;
};

}  // namespace pd::model
