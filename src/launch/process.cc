#include "launch/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/check.h"

namespace pd::launch {
namespace {

// Everything the child needs, made before fork(): after it only async-signal-safe calls are
// allowed.
struct ChildPlan {
  std::vector<char*> argv;
  std::vector<int> keep;  // sorted
  int output = -1;
  int report = -1;  // the parent reads errno from it when exec fails
  pid_t parent = 0;
  bool die_with_parent = false;
  bool own_group = false;
};

void close_range_of(unsigned first, unsigned last) {
  if (first <= last) ::syscall(SYS_close_range, first, last, 0);
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  const auto fail = [&plan] {
    const int reason = errno;
    (void)!::write(plan.report, &reason, sizeof(reason));
    ::_exit(127);
  };
  if (plan.own_group) ::setpgid(0, 0);
  if (plan.die_with_parent) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail();
    if (::getppid() != plan.parent) ::_exit(127);  // it died before the line above
  }
  if (plan.output >= 0 && (::dup2(plan.output, 1) < 0 || ::dup2(plan.output, 2) < 0)) fail();
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0 || ::dup2(null, 0) < 0) fail();
  unsigned next = 3;
  for (const int fd : plan.keep) {
    if (fd < 3) continue;
    close_range_of(next, static_cast<unsigned>(fd) - 1);
    if (fd != plan.report) ::fcntl(fd, F_SETFD, 0);  // exec closes the report
    next = static_cast<unsigned>(fd) + 1;
  }
  close_range_of(next, ~0U);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(plan.argv[0], plan.argv.data());
  fail();
  ::_exit(127);
}

}  // namespace

std::string to_string(const ExitStatus& status) {
  if (status.signal != 0)
    return fmt::format("killed by signal {} ({})", status.signal, ::strsignal(status.signal));
  return fmt::format("exit status {}", status.code);
}

Result<Process> Process::start(const ProcessSpec& spec) {
  CHECK(!spec.argv.empty());
  UniqueFd output;
  if (!spec.log_file.empty()) {
    output.reset(::open(spec.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!output) {
      return error(ErrorCode::kUnavailable,
                   fmt::format("{}: cannot open for the process's log: {}", spec.log_file.string(),
                               std::strerror(errno)));
    }
  }
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot start {}: {}", spec.argv[0], std::strerror(errno)));
  }
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);

  ChildPlan plan;
  for (const std::string& argument : spec.argv)
    plan.argv.push_back(const_cast<char*>(argument.c_str()));
  plan.argv.push_back(nullptr);
  plan.keep = spec.keep_open;
  plan.keep.push_back(write_end.get());
  std::ranges::sort(plan.keep);
  plan.output = output.get();
  plan.report = write_end.get();
  plan.parent = ::getpid();
  plan.die_with_parent = spec.die_with_parent;
  plan.own_group = spec.own_group;

  const pid_t pid = ::fork();
  if (pid < 0)
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot start {}: {}", spec.argv[0], std::strerror(errno)));
  if (pid == 0) run_child(plan);
  write_end.reset();
  int reason = 0;
  ssize_t got = 0;  // end of file: exec succeeded
  do {
    got = ::read(read_end.get(), &reason, sizeof(reason));
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof(reason))) {
    ::waitpid(pid, nullptr, 0);
    return error(reason == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
                 fmt::format("cannot start {}: {}", spec.argv[0], std::strerror(reason)));
  }
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    const int why = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot watch {}: {}", spec.argv[0], std::strerror(why)));
  }
  return Process(pid, std::move(pidfd));
}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(ended_, other.ended_);
  return *this;
}

Process::~Process() {
  if (!pidfd_ || ended_) return;
  kill();
  wait();
}

std::optional<ExitStatus> Process::poll() {
  if (ended_) return ended_;
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0)
    return std::nullopt;
  ended_ =
      info.si_code == CLD_EXITED ? ExitStatus{info.si_status, 0} : ExitStatus{0, info.si_status};
  return ended_;
}

ExitStatus Process::wait() {
  while (!ended_) {
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
      if (errno == EINTR) continue;
      ended_ = ExitStatus{};  // somebody else reaped it
      break;
    }
    ended_ =
        info.si_code == CLD_EXITED ? ExitStatus{info.si_status, 0} : ExitStatus{0, info.si_status};
  }
  return *ended_;
}

// Through the pidfd: never hits another process that got the same number.
void Process::send(int signal) {
  if (!ended_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}
void Process::terminate() { send(SIGTERM); }
void Process::kill() { send(SIGKILL); }

std::string tail_of(const std::filesystem::path& file, std::size_t bytes) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) return {};
  const auto size = static_cast<std::size_t>(in.tellg());
  const std::size_t start = size > bytes ? size - bytes : 0;
  in.seekg(static_cast<std::streamoff>(start));
  std::string out(size - start, '\0');
  in.read(out.data(), static_cast<std::streamsize>(out.size()));
  if (start > 0) {
    if (const auto line = out.find('\n'); line != std::string::npos) out.erase(0, line + 1);
  }
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

}  // namespace pd::launch
