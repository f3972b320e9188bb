#include "cli/http_stream.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "protocol/sse_reader.h"

namespace pd::cli {
namespace {

// The text of one chunk, chat or completion.
std::string text_of(const nlohmann::json& chunk) {
  if (!chunk.contains("choices") || !chunk["choices"].is_array() || chunk["choices"].empty())
    return {};
  const auto& choice = chunk["choices"][0];
  if (choice.contains("text") && choice["text"].is_string()) return choice["text"];
  if (choice.contains("delta") && choice["delta"].contains("content") &&
      choice["delta"]["content"].is_string()) {
    return choice["delta"]["content"];
  }
  return {};
}

}  // namespace

Result<std::string> stream_answer(const Server& server, const std::string& path,
                                  const std::string& body,
                                  const std::function<void(std::string_view)>& on_text) {
  net::EventLoop loop;
  net::HttpClient http(loop, server.client_options());

  int status = 0;
  std::string plain, whole;
  std::optional<Error> failure;
  bool done = false;
  protocol::SseReader reader;
  const auto on_event = [&](std::string_view data) {
    if (data == "[DONE]") {
      done = true;
      return;
    }
    const auto json = nlohmann::json::parse(data, nullptr, false);
    if (!json.is_object()) return;
    if (json.contains("error")) {
      failure = Error{ErrorCode::kUnavailable, refusal_message(data, status)};
      return;
    }
    const std::string text = text_of(json);
    whole += text;
    if (!text.empty()) on_text(text);
  };
  http.call(server.call("POST", path, body),
            {[&](int code, const std::vector<net::Header>&) { status = code; },
             [&](std::string_view bytes) {
               if (status == 200)
                 reader.feed(bytes, on_event);
               else
                 plain += bytes;
             },
             [&](const Status& end) {
               if (!end) failure = end.error();
               loop.stop();
             }});
  loop.run();
  if (failure) return std::unexpected(*failure);
  if (status != 200) return error(ErrorCode::kUnavailable, refusal_message(plain, status));
  if (!done) return error(ErrorCode::kUnavailable, "the stream ended before it was complete");
  return whole;
}

}  // namespace pd::cli
