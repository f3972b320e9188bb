// One UCX context, worker and listener of this process, with our settings. UCX's types appear here
// only as names; its headers stay in .cc files. One thread uses it, UCX's own helper thread apart.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "transfer/kv_transport.h"
#include "transfer/ucx_wire.h"

struct ucp_conn_request;
struct ucp_context;
struct ucp_ep;
struct ucp_listener;
struct ucp_worker;

namespace pd::transfer {

inline constexpr unsigned kMessageId = 1;  // UCX's id of all our messages

class UcxWorker {
 public:
  // Both run inside progress(). The message's bytes and `from` are valid during the call only.
  using OnConnection = std::function<void(ucp_conn_request* request)>;
  using OnMessage = std::function<void(MessageHeader header, ucp_ep* from, std::string_view bytes)>;

  // kInvalidArgument: the interface has no address; kUnavailable: the port is taken, or UCX offers
  // none of the wanted wires.
  static Result<std::unique_ptr<UcxWorker>> create(const UcxOptions& options,
                                                   OnConnection on_connection,
                                                   OnMessage on_message);
  // Every endpoint is closed before.
  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  void reject(ucp_conn_request* request);

  bool progress();  // false: there was nothing to do
  // Prepares event_fd() to become readable at the next event. False: progress() first.
  bool arm();
  int event_fd() const { return event_fd_; }

  const SocketAddress& address() const { return address_; }
  ucp_worker* handle() const { return worker_; }
  // What carries bytes that are not shared memory.
  Transport network() const { return network_; }

 private:
  UcxWorker() = default;
  Status open(const UcxOptions& options);
  Status set_message_handler();
  Status listen(const UcxOptions& options);

  OnConnection on_connection_;
  OnMessage on_message_;
  ucp_context* context_ = nullptr;
  ucp_worker* worker_ = nullptr;
  ucp_listener* listener_ = nullptr;
  int event_fd_ = -1;
  SocketAddress address_;
  Transport network_ = Transport::kTcp;
};

}  // namespace pd::transfer
