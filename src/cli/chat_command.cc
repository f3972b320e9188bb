#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/printable.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/http_stream.h"
#include "cli/server_flags.h"
#include "cli/settings.h"

namespace pd::cli {
namespace {

constexpr auto kListPatience = std::chrono::seconds(30);  // for a list that no server computes

struct ChatFlags {
  ServerFlags server;
  std::string model;
  std::string system;
  double temperature = 0.3;  // small models ramble at 1, the API's default
  int max_tokens = 512;
};

int run(const ChatFlags& flags) {
  const auto server = flags.server.resolve();
  if (!server) return fail(server.error());
  std::string model = flags.model;
  if (model.empty()) {
    auto found = first_model(*server, kListPatience);
    if (!found) return fail(fmt::format("{}: {}", flags.server.url, found.error().message));
    model = *found;
  }
  const bool terminal = ::isatty(0) == 1;
  if (terminal)
    tell("{} at {}. An empty line, /exit or Ctrl-D ends.\n", printable(model), flags.server.url);
  nlohmann::json messages = nlohmann::json::array();
  if (!flags.system.empty()) messages.push_back({{"role", "system"}, {"content", flags.system}});
  int exit_status = 0;
  std::string line;
  while (true) {
    if (terminal) tell("> ");
    if (!std::getline(std::cin, line) || line.empty() || line == "/exit") break;
    messages.push_back({{"role", "user"}, {"content", line}});
    nlohmann::json body{{"model", model},
                        {"messages", messages},
                        {"stream", true},
                        {"max_tokens", flags.max_tokens}};
    body["temperature"] = flags.temperature;
    const auto answer =
        stream_answer(*server, "/chat/completions",
                      body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                      [](std::string_view text) { tell("{}", printable(text, "\n\t")); });
    tell("\n");
    if (!answer) {
      exit_status = fail(answer.error());
      messages.erase(messages.size() -
                     1);  // the question was not answered: asking again starts clean
      if (!terminal) break;
      continue;
    }
    exit_status = 0;
    messages.push_back({{"role", "assistant"}, {"content", *answer}});
  }
  return exit_status;
}

}  // namespace

Command add_chat(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "chat", "talk to any OpenAI-compatible server in the terminal, streaming");
  auto flags = std::make_shared<ChatFlags>();
  flags->server.add_to(*app);
  app->add_option("--model", flags->model, "model to ask for; default: the server's first");
  app->add_option("--system", flags->system, "system message");
  app->add_option("--temperature", flags->temperature, "0: always the likeliest token; default 0.3")
      ->check(CLI::Range(0.0, 2.0));
  app->add_option("--max-tokens", flags->max_tokens, "longest answer")
      ->check(CLI::Range(1, 1'000'000));
  return {app, [flags] { return run(*flags); }};
}

}  // namespace pd::cli
