#include "transfer/ucx_worker.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <ucp/api/ucp.h>

#include <cstring>
#include <utility>

#include "base/log.h"
#include "transfer/ucx_settings.h"
#include "transfer/ucx_status.h"

namespace pd::transfer {

namespace {

// Data is the largest kind; what is larger is not ours.
constexpr std::size_t kMessageBytesMax = kReadBytesMax;

struct ConfigDeleter {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};

Result<std::unique_ptr<ucp_config_t, ConfigDeleter>> read_config(const UcxSettings& settings) {
  ucp_config_t* raw = nullptr;
  ucs_status_t status = ucp_config_read(nullptr, nullptr, &raw);
  if (status != UCS_OK) return std::unexpected(ucx_error("UCX configuration", status));
  std::unique_ptr<ucp_config_t, ConfigDeleter> config(raw);
  for (const auto& [name, value] : settings.values) {
    status = ucp_config_modify(raw, name, value.c_str());
    if (status != UCS_OK) {
      return std::unexpected(ucx_error(fmt::format("UCX setting {}={}", name, value), status));
    }
  }
  return config;
}

}  // namespace

Result<std::unique_ptr<UcxWorker>> UcxWorker::create(const UcxOptions& options,
                                                     OnConnection on_connection,
                                                     OnMessage on_message) {
  tame_ucx();
  std::unique_ptr<UcxWorker> worker(new UcxWorker);
  worker->on_connection_ = std::move(on_connection);
  worker->on_message_ = std::move(on_message);
  if (Status status = worker->open(options); !status) return std::unexpected(status.error());
  return worker;
}

UcxWorker::~UcxWorker() {
  if (listener_ != nullptr) ucp_listener_destroy(listener_);
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

Status UcxWorker::open(const UcxOptions& options) {
  Result<UcxSettings> settings = make_ucx_settings(options);
  if (!settings) return std::unexpected(settings.error());
  network_ = settings->network;
  auto config = read_config(*settings);
  if (!config) return std::unexpected(config.error());

  ucp_params_t params = {};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  ucs_status_t status = ucp_init(&params, config->get(), &context_);
  if (status != UCS_OK) return std::unexpected(ucx_error("UCX start", status));

  ucp_worker_params_t worker_params = {};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SINGLE;
  status = ucp_worker_create(context_, &worker_params, &worker_);
  if (status != UCS_OK) return std::unexpected(ucx_error("UCX worker", status));
  status = ucp_worker_get_efd(worker_, &event_fd_);
  if (status != UCS_OK) return std::unexpected(ucx_error("UCX event descriptor", status));

  if (Status set = set_message_handler(); !set) return set;
  address_ = settings->listen_on;
  return listen(options);
}

Status UcxWorker::set_message_handler() {
  ucp_am_handler_param_t handler = {};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kMessageId;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG;
  handler.arg = this;
  handler.cb = [](void* self, const void* header, std::size_t header_bytes, void* data,
                  std::size_t bytes, const ucp_am_recv_param_t* param) {
    const Result<MessageHeader> ours =
        decode_message_header({static_cast<const char*>(header), header_bytes});
    const bool whole = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0;
    const bool known = (param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0;
    if (!ours || !whole || !known || bytes > kMessageBytesMax) {
      log::debug("KV transfer: dropped a message of {} bytes that is not ours", bytes);
      return UCS_OK;
    }
    static_cast<UcxWorker*>(self)->on_message_(*ours, param->reply_ep,
                                               {static_cast<const char*>(data), bytes});
    return UCS_OK;
  };
  const ucs_status_t status = ucp_worker_set_am_recv_handler(worker_, &handler);
  if (status != UCS_OK) return std::unexpected(ucx_error("UCX message handler", status));
  return {};
}

Status UcxWorker::listen(const UcxOptions& options) {
  sockaddr_storage storage = {};
  const socklen_t length = to_sockaddr(address_, storage);
  ucp_listener_params_t params = {};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr = {reinterpret_cast<const sockaddr*>(&storage), length};
  params.conn_handler = {[](ucp_conn_request_h request, void* self) {
                           static_cast<UcxWorker*>(self)->on_connection_(request);
                         },
                         this};
  ucs_status_t status = ucp_listener_create(worker_, &params, &listener_);
  if (status != UCS_OK) {
    return std::unexpected(
        ucx_error(fmt::format("KV transfer cannot listen on interface '{}'",
                              options.interface.empty() ? "lo" : options.interface),
                  status));
  }
  ucp_listener_attr_t attributes = {};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  status = ucp_listener_query(listener_, &attributes);
  if (status != UCS_OK) return std::unexpected(ucx_error("UCX listener", status));
  // Family and position of the port are the same in both structures.
  address_.port = ntohs(reinterpret_cast<const sockaddr_in*>(&attributes.sockaddr)->sin_port);
  return {};
}

void UcxWorker::reject(ucp_conn_request* request) { ucp_listener_reject(listener_, request); }

bool UcxWorker::progress() { return ucp_worker_progress(worker_) != 0; }

bool UcxWorker::arm() { return ucp_worker_arm(worker_) == UCS_OK; }

}  // namespace pd::transfer
