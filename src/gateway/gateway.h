// The door: an OpenAI API in front of one group. Here is what there is once in a process: keys,
// certificate, access log, listening sockets, the operator's port, the end. Requests are served by
// shards, one for each event loop. Lives on the loop of the first shard.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/metrics.h"
#include "base/result.h"
#include "gateway/access.h"
#include "gateway/access_log.h"
#include "gateway/admin.h"
#include "gateway/certificate_files.h"
#include "gateway/gateway_options.h"
#include "gateway/keys_file.h"
#include "gateway/listening.h"
#include "gateway/shards.h"
#include "net/descriptor_handover.h"
#include "net/event_loop.h"

namespace pd::gateway {

class Gateway {
 public:
  // Listens at once; serves while `loop` runs. `loop` and `model` outlive it.
  static Result<std::unique_ptr<Gateway>> create(net::EventLoop& loop, const model::Model& model,
                                                 GatewayOptions options);
  ~Gateway();

  std::uint16_t port() const { return shards_->port(); }
  std::optional<std::uint16_t> admin_port() const {
    return admin_ ? std::optional(admin_->port()) : std::nullopt;
  }
  // Once, when connections are accepted: at once, but a process that replaces another first has to
  // know the instances, and until then the other goes on.
  void on_serving(std::function<void()> work) { on_serving_ = std::move(work); }
  // Once, when nothing is left to do after drain() or after another process has taken over.
  void on_end(std::function<void()> work) { on_end_ = std::move(work); }
  // No new requests. What is still in flight after `limit` ends with an error that says so. Again:
  // the sooner limit counts.
  void drain(Duration limit);
  // A text is being read, or the log's last lines are being written, whose end nobody waits for:
  // destruction would. A process that has nothing else to do closes the log and ends.
  bool reads_text() const { return shards_->reads_text(); }
  bool close_log();  // false: it still writes

 private:
  Gateway(net::EventLoop& loop, GatewayOptions options);
  Status open_certificate();
  Status open_access();
  void use_access(const protocol::AccessFile& file);  // any thread
  Status open_admin();
  void serve();
  Status offer();
  void hand_over();
  void end_within(Duration limit);
  void look_for_end();
  void say_what_is_left(const std::vector<ShardHealth>& all);

  net::EventLoop& loop_;
  GatewayOptions options_;
  Metrics metrics_;  // of what belongs to no shard
  Access access_;
  std::unique_ptr<CertificateFiles> certificate_;
  std::unique_ptr<AccessLog> access_log_;
  std::optional<Listening> listening_;
  std::unique_ptr<Shards> shards_;
  std::unique_ptr<KeysFile> keys_file_;  // its thread tells the shards
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<net::DescriptorOffer> offer_;
  std::size_t shards_without_instances_ = 0;
  std::function<void()> on_serving_, on_end_;
  std::optional<Time> end_by_;  // once it is to end
  Time said_{};                 // when the log last heard what is left
  std::optional<net::EventLoop::TimerId> look_;
};

}  // namespace pd::gateway
