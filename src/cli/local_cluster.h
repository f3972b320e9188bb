// A cluster on this machine as `pdserve up` runs it: controller and gateway as child processes,
// workers as the controller's; one folder for state, logs and the secret; everything ends when this
// object's process does.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cli/cluster_status.h"
#include "cli/private_folder.h"
#include "launch/process.h"
#include "net/event_loop.h"
#include "net/fd_watch.h"
#include "net/http_client.h"
#include "protocol/config.h"

namespace pd::cli {

class LocalCluster {
 public:
  // Makes the folder, writes secret and configuration. `loop` outlives it.
  static Result<std::unique_ptr<LocalCluster>> create(net::EventLoop& loop,
                                                      protocol::Config config);
  ~LocalCluster();  // kills what still runs and removes the folder if it was made here

  // Starts gateway and controller. Errors carry the child's last words.
  Status start();

  // The controller's view of the group; calls back on the loop.
  void fetch_status(std::function<void(Result<ClusterStatus>)> done);
  // `ended` is called when the gateway or the controller ends without having been stopped from
  // here; `cleanly`: with exit status 0, as somebody else asked it to.
  void on_child_end(
      std::function<void(const std::string& who, const std::string& how, bool cleanly)> ended) {
    ended_ = std::move(ended);
  }

  // A new gateway at the old one's address, after the old one has ended.
  Status restart_gateway();
  // The folder stays: somebody will want to read its logs.
  void keep_directory();

  // Gateway first, then the controller with its workers; `done` once all have ended.
  void stop(std::function<void()> done);
  void kill();

  std::uint16_t gateway_port() const { return gateway_port_; }
  std::uint16_t controller_port() const { return controller_port_; }
  std::uint16_t admin_port() const { return admin_port_; }  // 0: none
  const std::string& secret() const { return secret_; }
  pid_t gateway_pid() const { return gateway_.process ? gateway_.process->pid() : -1; }
  pid_t controller_pid() const { return controller_.process ? controller_.process->pid() : -1; }
  const std::filesystem::path& directory() const { return directory_; }
  const protocol::Config& config() const { return config_; }

 private:
  struct Child {
    std::string name;
    std::optional<launch::Process> process;
    net::FdWatch exit_watch;
  };
  LocalCluster(net::EventLoop& loop, protocol::Config config, std::filesystem::path directory,
               std::optional<PrivateFolder> own_folder);
  // The ports that it announces, the main one first.
  Result<std::vector<std::uint16_t>> start_child(Child& child, std::vector<std::string> arguments,
                                                 bool hand_down_lifeline);
  Status start_gateway(std::vector<std::string> arguments);
  void watch(Child& child);
  void on_exit(Child& child);

  net::EventLoop& loop_;
  net::HttpClient http_;
  protocol::Config config_;
  std::filesystem::path directory_;
  UniqueFd directory_lock_;  // a second `up` in the folder would write over what this one lives on
  std::optional<PrivateFolder> own_folder_;  // directory_, if it was made here
  std::string secret_;
  UniqueFd lifeline_read_, lifeline_write_;
  Child gateway_{"gateway", {}, {}}, controller_{"controller", {}, {}};
  std::uint16_t gateway_port_ = 0, controller_port_ = 0, admin_port_ = 0;
  std::function<void(const std::string&, const std::string&, bool)> ended_;
  std::function<void()> stopped_;
};

}  // namespace pd::cli
