#include "cli/local_cluster.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/mapped_file.h"
#include "base/text.h"
#include "cli/files.h"

namespace pd::cli {

namespace fs = std::filesystem;

namespace {

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

// The last line a child wrote about its own failure, without the program's name in front.
std::string last_words(const fs::path& log) {
  const std::string tail = launch::tail_of(log, 2000);
  std::string line = tail.substr(tail.rfind('\n') + 1);
  if (line.starts_with("pdserve: ")) line.erase(0, 9);
  return line;
}

// Before anything in the folder is written: what another cluster lives on is in it.
Result<UniqueFd> lock_of(const fs::path& directory) {
  const fs::path path = directory / "up.lock";
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: [cluster] directory: cannot write in it: {}", directory.string(),
                             std::strerror(errno)));
  }
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    return error(
        ErrorCode::kAlreadyExists,
        fmt::format("{}: [cluster] directory: another pdserve up runs in it; stop that one "
                    "or name another folder",
                    directory.string()));
  }
  return file;
}

}  // namespace

Result<std::unique_ptr<LocalCluster>> LocalCluster::create(net::EventLoop& loop,
                                                           protocol::Config config) {
  fs::path directory = config.cluster.directory;
  std::optional<PrivateFolder> own_folder;
  if (directory.empty()) {
    auto made = PrivateFolder::make("pdserve");
    if (!made) return std::unexpected(made.error());
    directory = made->path();
    own_folder.emplace(std::move(*made));
  } else {
    std::error_code code;
    fs::create_directories(directory, code);
    if (code)
      return error(ErrorCode::kUnavailable,
                   fmt::format("{}: [cluster] directory: cannot make it: {}", directory.string(),
                               code.message()));
  }
  auto lock = lock_of(directory);
  if (!lock) return std::unexpected(lock.error());
  config.cluster.directory = directory.string();
  std::unique_ptr<LocalCluster> cluster(
      new LocalCluster(loop, std::move(config), directory, std::move(own_folder)));
  auto pipe = make_pipe();
  if (!pipe) return std::unexpected(pipe.error());
  cluster->directory_lock_ = std::move(*lock);
  cluster->lifeline_read_ = std::move(pipe->first);
  cluster->lifeline_write_ = std::move(pipe->second);
  protocol::Config& own = cluster->config_;
  if (own.cluster.secret_file.empty()) {
    own.cluster.secret_file = (directory / "secret").string();
    if (auto written = write_private_file(own.cluster.secret_file,
                                          to_hex(random_bits()) + to_hex(random_bits()));
        !written) {
      return std::unexpected(written.error());
    }
  }
  auto secret = read_file(own.cluster.secret_file, 4096);
  if (!secret) return std::unexpected(secret.error());
  cluster->secret_ = std::move(*secret);
  while (!cluster->secret_.empty() && cluster->secret_.back() == '\n') cluster->secret_.pop_back();
  // All instances are on this machine, too; and `up` replaces its gateway itself.
  if (own.gateway.loops == 0) own.gateway.loops = 1;
  own.gateway.handover_socket.clear();
  if (own.gateway.admin_port < 0) own.gateway.admin_port = 0;  // `pdserve ctl` is there at once
  if (auto written = write_private_file(directory / "pdserve.toml", to_toml(own)); !written)
    return std::unexpected(written.error());
  return cluster;
}

LocalCluster::LocalCluster(net::EventLoop& loop, protocol::Config config, fs::path directory,
                           std::optional<PrivateFolder> own_folder)
    : loop_(loop),
      http_(loop),
      config_(std::move(config)),
      directory_(std::move(directory)),
      own_folder_(std::move(own_folder)) {}

LocalCluster::~LocalCluster() {
  lifeline_write_.reset();  // workers end by it whatever becomes of the controller
  gateway_.process.reset();
  controller_.process.reset();
}

void LocalCluster::keep_directory() {
  if (own_folder_) own_folder_->keep();
}

Result<std::vector<std::uint16_t>> LocalCluster::start_child(Child& child,
                                                             std::vector<std::string> arguments,
                                                             bool hand_down_lifeline) {
  auto pipe = make_pipe();
  if (!pipe) return std::unexpected(pipe.error());
  auto& [read_end, write_end] = *pipe;
  launch::ProcessSpec spec;
  spec.argv = {program_path().string(),
               child.name,
               "--config",
               (directory_ / "pdserve.toml").string(),
               "--ready-fd",
               std::to_string(write_end.get())};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.keep_open = {write_end.get()};
  if (hand_down_lifeline) {
    spec.keep_open.push_back(lifeline_read_.get());
    spec.argv.insert(spec.argv.end(), {"--lifeline", std::to_string(lifeline_read_.get())});
  }
  spec.log_file = directory_ / (child.name + ".log");
  auto process = launch::Process::start(spec);
  if (!process) return std::unexpected(process.error());
  child.process = std::move(*process);
  write_end.reset();
  // The child writes its port once it listens, or ends, which closes the pipe: this cannot hang on
  // a living child that makes no progress, because listening comes before anything slow but opening
  // the model's files.
  std::string line;
  char c = 0;
  while (::read(read_end.get(), &c, 1) == 1 && c != '\n') line += c;
  std::vector<std::uint16_t> ports;
  const char* end = line.data() + line.size();
  for (const char* at = line.data(); at < end; ++at) {
    std::uint16_t port = 0;
    const auto [rest, code] = std::from_chars(at, end, port);
    if (code != std::errc()) break;
    ports.push_back(port);
    at = rest;
  }
  if (ports.empty()) {
    const auto ended = child.process->wait();
    child.process.reset();
    const std::string words = last_words(spec.log_file);
    return error(ErrorCode::kUnavailable, words.empty() ? fmt::format("the {} did not start: {}",
                                                                      child.name, to_string(ended))
                                                        : words);
  }
  watch(child);
  return ports;
}

Status LocalCluster::start() {
  auto controller = start_child(controller_, {}, true);
  if (!controller) return std::unexpected(controller.error());
  controller_port_ = controller->front();
  return start_gateway({});
}

Status LocalCluster::start_gateway(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(),
                   {"--controller", fmt::format("{}:{}", config_.worker.host, controller_port_)});
  auto ports = start_child(gateway_, std::move(arguments), false);
  if (!ports) return std::unexpected(ports.error());
  gateway_port_ = ports->front();
  admin_port_ = ports->size() > 1 ? ports->at(1) : 0;
  return {};
}

Status LocalCluster::restart_gateway() {
  return start_gateway({"--port", std::to_string(gateway_port_)});
}

void LocalCluster::watch(Child& child) {
  auto watch = net::FdWatch::create(loop_, child.process->exit_fd(),
                                    {[this, &child] { on_exit(child); }, nullptr, nullptr});
  if (!watch) return;
  child.exit_watch = std::move(*watch);
  child.exit_watch.arm_readable();
}

void LocalCluster::on_exit(Child& child) {
  const auto ended = child.process->poll();
  if (!ended) return child.exit_watch.arm_readable();
  child.exit_watch = {};
  child.process.reset();
  if (stopped_) {
    if (&child == &gateway_ && controller_.process) controller_.process->terminate();
    if (!gateway_.process && !controller_.process) stopped_();
    return;
  }
  if (!ended_) return;
  // What a killed process logged last is not why it ended.
  std::string how = to_string(*ended);
  if (ended->signal == 0) how += ": " + last_words(directory_ / (child.name + ".log"));
  ended_(child.name, how, ended->clean());
}

void LocalCluster::fetch_status(std::function<void(Result<ClusterStatus>)> done) {
  net::HttpCall call;
  call.address = {config_.worker.host, controller_port_};
  call.method = "GET";
  call.target = "/cluster/v1/status";
  call.headers = {{"authorization", "Bearer " + secret_}};
  call.read_timeout = std::chrono::seconds(5);
  http_.fetch(std::move(call),
              [done = std::move(done)](const Result<net::HttpClient::Whole>& answer) {
                if (!answer) return done(std::unexpected(answer.error()));
                done(parse_cluster_status(answer->body));
              });
}

void LocalCluster::stop(std::function<void()> done) {
  stopped_ = std::move(done);
  if (gateway_.process)
    gateway_.process->terminate();
  else if (controller_.process)
    controller_.process->terminate();
  else
    loop_.post(stopped_);
}

void LocalCluster::kill() {
  lifeline_write_.reset();
  if (gateway_.process) gateway_.process->kill();
  if (controller_.process) controller_.process->kill();
}

}  // namespace pd::cli
