// From the bytes of an API request to token ids: parse, template, tokenize, check against the
// model. The heavy part of a request, done once, on its own thread (TextWorker), never on the I/O
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "model/model.h"
#include "protocol/openai_request.h"

namespace pd::gateway {

struct PreparedRequest {
  protocol::ApiRequest api;
  std::vector<std::shared_ptr<const std::vector<TokenId>>> prompts;
  std::vector<std::vector<std::uint64_t>> prefixes;  // policy::prefix_hashes of each prompt
  std::vector<std::string> prompt_texts;             // echo only
};

// What requests are checked against. `model` outlives it.
struct PrepareContext {
  const model::Model* model = nullptr;
  std::string model_name;
  protocol::ApiLimits limits;
  Tokens context_max;  // prompt and output together
};

// `salt`: of the tenant's prefixes.
protocol::ApiResult<PreparedRequest> prepare(protocol::ApiRequest::Kind kind, std::string_view body,
                                             const PrepareContext& context,
                                             std::int64_t unix_seconds, std::uint64_t salt);
// The bodies of /tokenize and /detokenize, answered whole.
protocol::ApiResult<std::string> tokenize(std::string_view body, const PrepareContext& context,
                                          std::int64_t unix_seconds);
protocol::ApiResult<std::string> detokenize(std::string_view body, const PrepareContext& context);

// One thread that runs such work in order. Its queue is bounded: submit() says false when it is
// full.
class TextWorker {
 public:
  explicit TextWorker(std::size_t queue_max) : queue_(queue_max) {}
  ~TextWorker() { queue_.close(); }
  void run();  // starts the thread
  bool submit(std::function<void()> work) { return queue_.try_push(std::move(work)); }

 private:
  BoundedQueue<std::function<void()>> queue_;
  std::jthread thread_;
};

}  // namespace pd::gateway
