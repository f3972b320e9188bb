#include "cli/tokenize_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <istream>
#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "base/text.h"
#include "model/json_text.h"

namespace pd::cli {
namespace {

using nlohmann::json;

std::unexpected<Error> wrong(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

Result<bool> flag(const json& request, const char* key, bool otherwise) {
  const auto member = request.find(key);
  if (member == request.end()) return otherwise;
  if (!member->is_boolean()) return wrong(fmt::format("\"{}\" must be true or false", key));
  return member->get<bool>();
}

Status check_keys(const json& request, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : request.items()) {
    if (std::ranges::find(known, key) == known.end()) {
      return wrong(fmt::format("unknown key {}", model::quote(key)));
    }
  }
  return {};
}

Result<std::string> answer_text(const json& request, const model::Tokenizer& tokenizer) {
  if (auto ok = check_keys(request, {"text", "add_special_tokens", "parse_special"}); !ok) {
    return std::unexpected(ok.error());
  }
  if (!request["text"].is_string()) return wrong("\"text\" must be a string");
  const auto add = flag(request, "add_special_tokens", true);
  if (!add) return std::unexpected(add.error());
  const auto parse = flag(request, "parse_special", true);
  if (!parse) return std::unexpected(parse.error());
  const auto ids = tokenizer.encode(request["text"].get_ref<const std::string&>(), {*add, *parse});
  if (!ids) return std::unexpected(ids.error());
  return fmt::format("{{\"ids\": [{}]}}", fmt::join(*ids, ", "));
}

Result<std::string> answer_ids(const json& request, const model::Tokenizer& tokenizer) {
  if (auto ok = check_keys(request, {"ids", "skip_special_tokens"}); !ok) {
    return std::unexpected(ok.error());
  }
  if (!request["ids"].is_array()) return wrong("\"ids\" must be an array");
  const auto skip = flag(request, "skip_special_tokens", false);
  if (!skip) return std::unexpected(skip.error());
  std::vector<TokenId> ids;
  for (const json& id : request["ids"]) {
    const bool in_range =
        id.is_number_unsigned() && id.get<std::uint64_t>() <= std::numeric_limits<TokenId>::max();
    if (!in_range) return wrong(fmt::format("\"ids\"[{}] must be a token id", ids.size()));
    ids.push_back(id.get<TokenId>());
  }
  const auto text = tokenizer.decode(ids, *skip);
  if (!text) return std::unexpected(text.error());
  std::string out = "{\"text\": \"";
  append_json_escaped(out, *text);
  return out + "\"}";
}

Result<std::string> answer(const std::string& line, const model::Tokenizer& tokenizer) {
  const auto request = model::parse_json(line, "the line");
  if (!request) return std::unexpected(request.error());
  if (request->is_object() && request->contains("text")) return answer_text(*request, tokenizer);
  if (request->is_object() && request->contains("ids")) return answer_ids(*request, tokenizer);
  return wrong("the line must be an object with \"text\" or \"ids\"");
}

}  // namespace

int run_tokenize(std::istream& in, std::ostream& out, const model::Tokenizer& tokenizer) {
  int status = 0;
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (const auto text = answer(line, tokenizer)) {
      out << *text << '\n';
    } else {
      std::string message;
      append_json_escaped(message, text.error().message);
      out << fmt::format("{{\"error\": \"{}\", \"line\": {}}}\n", message, number);
      status = 1;
    }
    out.flush();
    if (!out) return 1;  // nobody reads on
  }
  return status;
}

}  // namespace pd::cli
