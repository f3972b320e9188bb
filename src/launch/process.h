// Child processes: started without a shell, watched through a pidfd, never left behind.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace pd::launch {

struct ProcessSpec {
  std::vector<std::string> argv;   // argv[0]: path of the program
  std::filesystem::path log_file;  // standard output and error are appended to it; empty: inherited
  // The kernel kills the child when the starting thread ends, however it ends. Start such children
  // from a thread that lives as long as the process.
  bool die_with_parent = true;
  // Descriptors that the child keeps under their numbers; all others are closed.
  std::vector<int> keep_open;
  bool own_group =
      true;  // Ctrl-C at the terminal reaches the parent only, which ends its children in order
};

struct ExitStatus {
  int code = 0;    // valid when signal is 0
  int signal = 0;  // 0: it exited by itself
  bool clean() const { return code == 0 && signal == 0; }
};
// "exit status 1", "killed by signal 9 (Killed)"
std::string to_string(const ExitStatus& status);

// Owns the child: the destructor kills (SIGKILL) and reaps it if it still runs. Movable; one thread
// at a time.
class Process {
 public:
  // Errors: kNotFound (no such program), kUnavailable (the system's reason).
  static Result<Process> start(const ProcessSpec& spec);
  Process(Process&&) noexcept = default;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  int exit_fd() const { return pidfd_.get(); }  // becomes readable when the child has ended
  // The child's end, once; nullopt while it runs.
  std::optional<ExitStatus> poll();
  ExitStatus wait();
  void terminate();  // SIGTERM: end in order
  void kill();       // SIGKILL

 private:
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  void send(int signal);
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitStatus> ended_;
};

// The last lines of a log file, for messages about a child that died; at most `bytes` of it.
std::string tail_of(const std::filesystem::path& file, std::size_t bytes);

}  // namespace pd::launch
