// From the bytes of an API request to token ids: parse, template, tokenize, check against the
// model. The heavy part of a request, done once, on its own thread (TextWorker) and not on the I/O
// thread, unless it is so short that waking another would cost more.
#pragma once

#include <atomic>
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
// What /tokenize and /detokenize answer at most, where the context is not longer: longer texts can
// be measured in pieces, and an answer is a few hundred KiB.
constexpr std::size_t kTextTokensMax = 65'536;
// The bodies of /tokenize and /detokenize, answered whole.
protocol::ApiResult<std::string> tokenize(std::string_view body, const PrepareContext& context,
                                          std::int64_t unix_seconds);
protocol::ApiResult<std::string> detokenize(std::string_view body, const PrepareContext& context);

// One thread that runs such work in order. What waits is bounded in number and bytes: submit() says
// false when it is too much. What nobody waits for any more is not begun.
class TextWorker {
 public:
  struct Limits {
    std::size_t items = 1024;
    Bytes bytes{64 << 20};
  };
  explicit TextWorker(const Limits& limits) : limits_(limits), queue_(limits.items) {}
  ~TextWorker();
  void run();  // starts the thread

  // `bytes`: that the work holds while it waits. `work(false)`: it was given up, by give_up() or
  // because `wanted` is false by now; it must only say so.
  bool submit(Bytes bytes, std::shared_ptr<const std::atomic<bool>> wanted,
              std::function<void(bool go)> work);
  // From now on everything that waits is given up. Any thread.
  void give_up() { ending_ = true; }
  bool working() const { return working_; }  // on something that was begun. Any thread

 private:
  struct Item {
    Bytes bytes;
    std::shared_ptr<const std::atomic<bool>> wanted;
    std::function<void(bool)> work;
  };
  Limits limits_;
  BoundedQueue<Item> queue_;
  std::atomic<Bytes::rep> waiting_bytes_{0};
  std::atomic<bool> ending_{false}, working_{false};
  std::jthread thread_;
};

}  // namespace pd::gateway
