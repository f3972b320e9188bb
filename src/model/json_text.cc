#include "model/json_text.h"

#include <fmt/format.h>

#include <vector>

#include "base/text.h"

namespace pd::model {
namespace {

constexpr std::size_t kDepthMax = 64;

// Builds the value and ends the parse at the first thing that it refuses.
class TreeBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(nlohmann::json::object()); }
  bool start_array(std::size_t) override { return open(nlohmann::json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<nlohmann::json::object_t&>();
    const auto [member, is_new] = members.emplace(std::move(name), nullptr);
    if (!is_new) {
      problem_ = fmt::format("the key {} occurs twice in one object", quote(member->first));
      return false;
    }
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::json::exception& exception) override {
    std::string_view what = exception.what();
    if (const std::size_t at = what.find("] "); at != what.npos) what.remove_prefix(at + 2);
    // What follows repeats bytes of the file, which need not be text.
    problem_ = "not valid JSON: " + std::string(what.substr(0, what.find("; last read")));
    return false;
  }

  nlohmann::json root;
  const std::string& problem() const { return problem_; }

 private:
  bool put(nlohmann::json value) { return place(std::move(value)) != nullptr; }

  nlohmann::json* place(nlohmann::json value) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    nlohmann::json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    *member_ = std::move(value);
    return member_;
  }

  bool open(nlohmann::json container) {
    if (open_.size() == kDepthMax) {
      problem_ = fmt::format("nested deeper than {} levels", kDepthMax);
      return false;
    }
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<nlohmann::json*> open_;  // containers that enclose the next value, outermost first
  nlohmann::json* member_ = nullptr;   // where the value of the last key goes
  std::string problem_;
};

}  // namespace

std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 100;
  const bool cut = text.size() > kShown;
  if (cut) {
    text = text.substr(0, kShown);
    // Not in the middle of a character.
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0U) == 0x80U) {
      text.remove_suffix(1);
    }
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xC0U) text.remove_suffix(1);
  }
  std::string out = "'";
  append_json_escaped(out, text);
  out += cut ? "...'" : "'";
  return out;
}

Result<nlohmann::json> parse_json(std::string_view text, std::string_view name) {
  TreeBuilder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: {}", name, builder.problem()));
  }
  return std::move(builder.root);
}

}  // namespace pd::model
