// One connection, made or accepted, and the operations under way on it. Completions run inside
// UcxWorker::progress() or inside the call itself: they only note what happened.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "transfer/ucx_wire.h"
#include "transfer/ucx_worker.h"

namespace pd::transfer {

class UcxEndpoint {
 public:
  using Done = std::move_only_function<void(Status)>;

  // Returns before the connection is made; a failure shows in failure() later.
  static Result<std::unique_ptr<UcxEndpoint>> connect(UcxWorker& worker,
                                                      const SocketAddress& address);
  static Result<std::unique_ptr<UcxEndpoint>> accept(UcxWorker& worker, ucp_conn_request* request);
  ~UcxEndpoint();  // closed() was true
  UcxEndpoint(const UcxEndpoint&) = delete;
  UcxEndpoint& operator=(const UcxEndpoint&) = delete;

  void send(MessageHeader header, std::string message, Done done);
  // Sends from where the bytes lie, without a copy; they stay valid until `done`.
  void send_view(MessageHeader header, std::span<const std::byte> bytes, Done done);

  // Set once the connection is lost; then close() is all that is left.
  const std::optional<Error>& failure() const { return failure_; }
  int in_flight() const { return in_flight_; }

  // Drops the connection without asking the peer; what is in flight ends with an error.
  void close();
  bool closed();  // nothing of it is left in UCX

  ucp_ep* handle() const { return endpoint_; }

 private:
  struct Operation;
  UcxEndpoint() = default;
  void post(std::unique_ptr<Operation> operation, const void* bytes, std::size_t size);
  static void on_complete(void* request, int status, void* operation);

  ucp_ep* endpoint_ = nullptr;
  void* closing_ = nullptr;  // UCX's request
  bool close_called_ = false;
  int in_flight_ = 0;
  std::optional<Error> failure_;
};

}  // namespace pd::transfer
