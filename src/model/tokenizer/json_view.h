// Typed access to a parsed JSON document with errors that name the field's path.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pd::model::tokenizing {

class JsonView {
 public:
  JsonView(simdjson::dom::element element, std::string path)
      : element_(element), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  simdjson::dom::element element() const { return element_; }
  bool is_null() const { return element_.is_null(); }

  // A member that is absent or null is nullopt; the view itself must be an object.
  std::optional<JsonView> member(std::string_view key) const;
  JsonView item(simdjson::dom::element element, std::size_t index) const;

  Result<std::string_view> text() const;
  Result<std::int64_t> integer() const;
  Result<bool> boolean() const;
  Result<simdjson::dom::array> array() const;
  Result<simdjson::dom::object> object() const;

  // Members of this object. Without `otherwise` the member is required.
  Result<std::string_view> text_member(std::string_view key) const;
  Result<bool> boolean_member(std::string_view key, std::optional<bool> otherwise = {}) const;
  Result<std::int64_t> integer_member(std::string_view key,
                                      std::optional<std::int64_t> otherwise = {}) const;

  std::unexpected<Error> wrong(std::string_view what) const;        // "<path>: <what>"
  std::unexpected<Error> unsupported(std::string_view what) const;  // the same, kUnsupported

 private:
  std::string below(std::string_view key) const;

  simdjson::dom::element element_;
  std::string path_;
};

}  // namespace pd::model::tokenizing
