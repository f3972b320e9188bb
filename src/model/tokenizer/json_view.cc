#include "model/tokenizer/json_view.h"

#include <fmt/format.h>

namespace pd::model::tokenizing {

std::string JsonView::below(std::string_view key) const { return fmt::format("{}.{}", path_, key); }

std::optional<JsonView> JsonView::member(std::string_view key) const {
  simdjson::dom::object object;
  if (element_.get(object) != simdjson::SUCCESS) return std::nullopt;
  simdjson::dom::element value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return JsonView(value, below(key));
}

JsonView JsonView::item(simdjson::dom::element element, std::size_t index) const {
  return {element, fmt::format("{}[{}]", path_, index)};
}

std::unexpected<Error> JsonView::wrong(std::string_view what) const {
  return error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path_, what));
}

std::unexpected<Error> JsonView::unsupported(std::string_view what) const {
  return error(ErrorCode::kUnsupported, fmt::format("{}: {}", path_, what));
}

Result<std::string_view> JsonView::text() const {
  std::string_view out;
  if (element_.get(out) != simdjson::SUCCESS) return wrong("must be a string");
  return out;
}

Result<std::int64_t> JsonView::integer() const {
  std::int64_t out = 0;
  if (element_.get(out) != simdjson::SUCCESS) return wrong("must be an integer");
  return out;
}

Result<bool> JsonView::boolean() const {
  bool out = false;
  if (element_.get(out) != simdjson::SUCCESS) return wrong("must be true or false");
  return out;
}

Result<simdjson::dom::array> JsonView::array() const {
  simdjson::dom::array out;
  if (element_.get(out) != simdjson::SUCCESS) return wrong("must be an array");
  return out;
}

Result<simdjson::dom::object> JsonView::object() const {
  simdjson::dom::object out;
  if (element_.get(out) != simdjson::SUCCESS) return wrong("must be an object");
  return out;
}

Result<std::string_view> JsonView::text_member(std::string_view key) const {
  const auto value = member(key);
  if (!value) return wrong(fmt::format("the string \"{}\" is missing", key));
  return value->text();
}

Result<bool> JsonView::boolean_member(std::string_view key, std::optional<bool> otherwise) const {
  const auto value = member(key);
  if (value) return value->boolean();
  if (otherwise) return *otherwise;
  return wrong(fmt::format("the boolean \"{}\" is missing", key));
}

Result<std::int64_t> JsonView::integer_member(std::string_view key,
                                              std::optional<std::int64_t> otherwise) const {
  const auto value = member(key);
  if (value) return value->integer();
  if (otherwise) return *otherwise;
  return wrong(fmt::format("the number \"{}\" is missing", key));
}

}  // namespace pd::model::tokenizing
