// The subcommands. Each adds itself to the command line; its run() is called when it was chosen and
// returns the process's exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

namespace pd::cli {

struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

Command add_up(CLI::App& root);
Command add_worker(CLI::App& root);
Command add_gateway(CLI::App& root);
Command add_controller(CLI::App& root);
Command add_check(CLI::App& root);
Command add_chat(CLI::App& root);
Command add_ctl(CLI::App& root);
Command add_bench(CLI::App& root);
Command add_tokenize(CLI::App& root);
Command add_render(CLI::App& root);

}  // namespace pd::cli
