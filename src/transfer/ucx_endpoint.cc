#include "transfer/ucx_endpoint.h"

#include <ucp/api/ucp.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "transfer/ucx_settings.h"
#include "transfer/ucx_status.h"

namespace pd::transfer {

struct UcxEndpoint::Operation {
  UcxEndpoint* endpoint;
  std::array<char, kMessageHeaderBytes> header;  // UCX reads both until the operation completes
  std::string message;
  Done done;
};

namespace {

void prepare(ucp_ep_params_t& params, UcxEndpoint* self, ucp_err_handler_cb_t on_error) {
  params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;  // tells us when the peer's sockets close
  params.err_handler = {on_error, self};
}

}  // namespace

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::connect(UcxWorker& worker,
                                                          const SocketAddress& address) {
  std::unique_ptr<UcxEndpoint> self(new UcxEndpoint);
  sockaddr_storage storage = {};
  ucp_ep_params_t params = {};
  params.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr = {reinterpret_cast<const sockaddr*>(&storage), to_sockaddr(address, storage)};
  prepare(params, self.get(), [](void* endpoint, ucp_ep_h, ucs_status_t status) {
    static_cast<UcxEndpoint*>(endpoint)->failure_ = ucx_error("KV peer connection", status);
  });
  const ucs_status_t status = ucp_ep_create(worker.handle(), &params, &self->endpoint_);
  if (status != UCS_OK) return std::unexpected(ucx_error("KV peer connection", status));
  return self;
}

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::accept(UcxWorker& worker,
                                                         ucp_conn_request* request) {
  std::unique_ptr<UcxEndpoint> self(new UcxEndpoint);
  ucp_ep_params_t params = {};
  params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = request;
  prepare(params, self.get(), [](void* endpoint, ucp_ep_h, ucs_status_t status) {
    static_cast<UcxEndpoint*>(endpoint)->failure_ = ucx_error("KV peer connection", status);
  });
  const ucs_status_t status = ucp_ep_create(worker.handle(), &params, &self->endpoint_);
  if (status != UCS_OK) return std::unexpected(ucx_error("KV peer connection", status));
  return self;
}

UcxEndpoint::~UcxEndpoint() { CHECK(endpoint_ == nullptr || closed()); }

void UcxEndpoint::send(MessageHeader header, std::string message, Done done) {
  auto operation = std::make_unique<Operation>(
      Operation{this, encode(header), std::move(message), std::move(done)});
  const std::string& bytes = operation->message;
  post(std::move(operation), bytes.data(), bytes.size());
}

void UcxEndpoint::send_view(MessageHeader header, std::span<const std::byte> bytes, Done done) {
  post(std::make_unique<Operation>(Operation{this, encode(header), {}, std::move(done)}),
       bytes.data(), bytes.size());
}

// UCX owns the operation until its callback, unless the call was done or refused at once.
void UcxEndpoint::post(std::unique_ptr<Operation> operation, const void* bytes, std::size_t size) {
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  // Eager keeps messages in order; the reply flag tells the receiver which connection it was.
  param.flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER;
  param.user_data = operation.get();
  param.cb.send = [](void* request, ucs_status_t status, void* user) {
    on_complete(request, status, user);
  };
  void* request = ucp_am_send_nbx(endpoint_, kMessageId, operation->header.data(),
                                  operation->header.size(), bytes, size, &param);
  if (request == nullptr) {
    operation->done({});
  } else if (UCS_PTR_IS_ERR(request)) {
    operation->done(std::unexpected(ucx_error("KV peer connection", UCS_PTR_STATUS(request))));
  } else {
    ++in_flight_;
    (void)operation.release();
  }
}

void UcxEndpoint::on_complete(void* request, int status, void* user) {
  const std::unique_ptr<Operation> operation(static_cast<Operation*>(user));
  --operation->endpoint->in_flight_;
  if (status == UCS_OK) {
    operation->done({});
  } else {
    operation->done(std::unexpected(ucx_error("KV peer connection", status)));
  }
  ucp_request_free(request);
}

void UcxEndpoint::close() {
  if (std::exchange(close_called_, true) || endpoint_ == nullptr) return;
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  void* request = ucp_ep_close_nbx(endpoint_, &param);
  if (request != nullptr && !UCS_PTR_IS_ERR(request)) closing_ = request;
}

bool UcxEndpoint::closed() {
  if (endpoint_ == nullptr) return true;
  if (!close_called_ || in_flight_ > 0) return false;
  if (closing_ != nullptr) {
    if (ucp_request_check_status(closing_) == UCS_INPROGRESS) return false;
    ucp_request_free(closing_);
    closing_ = nullptr;
  }
  endpoint_ = nullptr;
  return true;
}

}  // namespace pd::transfer
