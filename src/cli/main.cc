// pdserve: parses the command line, hands over to one subcommand. Nothing else is decided here.

#include <fmt/format.h>

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "cli/settings.h"

namespace {

// The soft limit is what programs that use select() need; a gateway holds thousands of connections.
void use_all_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

bool has_command(const std::vector<pd::cli::Command>& commands, std::string_view name) {
  return std::ranges::any_of(
      commands, [name](const auto& command) { return command.app->get_name() == name; });
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error code, not the end of the process
  use_all_descriptors();

  CLI::App root(
      "pdserve serves large language models with prefill and decode on different instances.\n"
      "\n"
      "Start here:  pdserve up --model stories260K        a cluster on this machine with the model "
      "that ships\n"
      "             pdserve up --model DIR|FILE.gguf      your own model; then use any OpenAI "
      "client\n"
      "             pdserve chat                          talk to it in the terminal\n"
      "             pdserve check --model DIR             find out what is wrong before it starts");
  root.set_version_flag("--version", "pdserve 0.1.0");
  root.require_subcommand(1);
  root.fallthrough(false);
  const std::vector<pd::cli::Command> commands{
      pd::cli::add_up(root),         pd::cli::add_check(root),  pd::cli::add_chat(root),
      pd::cli::add_ctl(root),        pd::cli::add_bench(root),  pd::cli::add_gateway(root),
      pd::cli::add_controller(root), pd::cli::add_worker(root), pd::cli::add_tokenize(root),
      pd::cli::add_render(root)};
  // The parser itself only says that a command is required.
  if (argc > 1 && argv[1][0] != '-' && !has_command(commands, argv[1]))
    return pd::cli::fail(
        fmt::format("there is no command '{}'; pdserve --help lists them", argv[1]));
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return root.exit(problem) == 0 ? 0 : 1;
  }
  for (const auto& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return 1;
}
