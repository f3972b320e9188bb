#include "cli/render_command.h"

#include <istream>
#include <ostream>
#include <string>

namespace pd::cli {

int run_render(std::istream& in, std::ostream& out, const model::ChatTemplate& chat_template,
               std::int64_t unix_seconds) {
  int exit_status = 0;
  std::string line;
  while (std::getline(in, line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    nlohmann::ordered_json answer;
    const auto variables = nlohmann::ordered_json::parse(line, nullptr, false);
    if (!variables.is_object()) {
      answer["error"] = "the line is not a JSON object";
    } else if (auto text = chat_template.render(variables, unix_seconds)) {
      answer["text"] = std::move(*text);
    } else {
      answer["error"] = text.error().message;
    }
    if (answer.contains("error")) exit_status = 1;
    out << answer.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
        << std::endl;
  }
  return out ? exit_status : 1;
}

}  // namespace pd::cli
