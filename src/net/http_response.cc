#include <ctime>
#include <utility>

#include "net/server_connection.h"

namespace pd::net {

HttpResponse::HttpResponse(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

void HttpResponse::send(int status, std::string_view content_type, std::string_view body,
                        const std::vector<Header>& extra_headers) {
  impl_->send(status, content_type, body, extra_headers);
}
void HttpResponse::start(int status, std::string_view content_type,
                         const std::vector<Header>& extra_headers) {
  impl_->start(status, content_type, extra_headers);
}
void HttpResponse::upgrade(std::string_view protocol,
                           std::function<void(std::string_view)> on_bytes) {
  impl_->upgrade(protocol, std::move(on_bytes));
}
void HttpResponse::write(std::string_view bytes) { impl_->write(bytes); }
void HttpResponse::end() { impl_->end(); }
void HttpResponse::abort() { impl_->abort(); }
bool HttpResponse::open() const { return impl_->open(); }

Bytes HttpResponse::unsent() const {
  if (impl_->connection == nullptr) return Bytes(0);
  return Bytes(static_cast<Bytes::rep>(impl_->connection->unsent()));
}

void HttpResponse::on_close(std::function<void()> work) {
  if (impl_->open()) {
    impl_->on_close = std::move(work);
  } else if (impl_->lost && impl_->loop != nullptr) {
    impl_->loop->post(std::move(work));  // the peer went before anybody asked
  }
}

void HttpResponse::on_drained(std::function<void()> work) {
  if (!impl_->open()) return;
  impl_->on_drained = std::move(work);
  impl_->connection->schedule_pump();
}

HttpResponse::Impl::~Impl() {
  if (!open()) return;
  if (started) {
    connection->cut_later();
  } else {
    send(500, "application/json", error_body(500, "the server gave no answer to this request"), {});
  }
}

void HttpResponse::Impl::send(int status, std::string_view content_type, std::string_view body,
                              const std::vector<Header>& extra_headers) {
  if (!open() || started) return;
  started = true;
  // What the head says holds: a client that is told to keep the connection may use it at once.
  if (connection->context_->stop) connection->close_after_ = true;
  const bool no_content = status == 204 || status == 304;
  std::string bytes;
  ResponseHead head{.status = status,
                    .content_type = content_type,
                    .extra = &extra_headers,
                    .close = connection->close_after_,
                    .keep_alive = http_1_0 && !connection->close_after_,
                    .date = connection->context_->date.at(std::time(nullptr))};
  if (!no_content) head.content_length = body.size();
  append_response_head(bytes, head);
  queue(std::string_view(bytes).substr(head_bytes_sent));
  if (!no_content && !head_request) queue(body);
  ended = true;
  connection->response_ended();
}

void HttpResponse::Impl::start(int status, std::string_view content_type,
                               const std::vector<Header>& extra_headers) {
  if (!open() || started) return;
  started = true;
  // What the head says holds: a client that is told to keep the connection may use it at once.
  if (connection->context_->stop) connection->close_after_ = true;
  bodyless = head_request || status == 204 || status == 304;
  // HTTP/1.0 knows no chunks: there the end of the connection is the end of the body.
  chunked = !bodyless && !http_1_0;
  if (http_1_0 && !bodyless) connection->close_after_ = true;
  std::string bytes;
  append_response_head(bytes, {.status = status,
                               .content_type = content_type,
                               .extra = &extra_headers,
                               .chunked = chunked,
                               .close = connection->close_after_,
                               .keep_alive = http_1_0 && !connection->close_after_,
                               .date = connection->context_->date.at(std::time(nullptr))});
  queue(std::string_view(bytes).substr(head_bytes_sent));
}

void HttpResponse::Impl::upgrade(std::string_view protocol,
                                 std::function<void(std::string_view)> bytes_came) {
  if (!open() || started) return;
  started = true;
  on_bytes = std::make_shared<std::function<void(std::string_view)>>(std::move(bytes_came));
  connection->close_after_ = true;
  std::string bytes;
  append_response_head(bytes, {.status = 101,
                               .upgrade = protocol,
                               .date = connection->context_->date.at(std::time(nullptr))});
  queue(std::string_view(bytes).substr(head_bytes_sent));
  connection->upgraded();
}

void HttpResponse::Impl::write(std::string_view bytes) {
  if (!open() || !started || bodyless || bytes.empty()) return;
  // Over the limit: the reader is slow, unless all of it was written in this very turn.
  if (connection->too_slow() && (!connection->flush() || connection->too_slow()))
    return connection->cut_later();
  if (chunked) {
    append_chunk(connection->out_, bytes);
    connection->schedule_pump();
  } else {
    queue(bytes);
  }
}

void HttpResponse::Impl::end() {
  if (!open() || !started) return;
  if (chunked) queue(kLastChunk);
  ended = true;
  connection->response_ended();
}

void HttpResponse::Impl::abort() {
  if (!open()) return;
  ended = true;
  on_close = nullptr;
  connection->close(/*reset=*/true, /*tell_handler=*/false);
}

void HttpResponse::Impl::queue(std::string_view bytes) { connection->queue(bytes); }

}  // namespace pd::net
