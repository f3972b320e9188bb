// From the bytes of an API request to token ids: parse, template, tokenize, check against the
// model. The heavy part of a request, done once, on its own thread (TextWorker) and not on the I/O
// thread, unless it is so short that waking another would cost more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "model/model.h"
#include "protocol/openai_request.h"

namespace pd::gateway {

// Up to this a request is prepared at once, in less time than it takes to wake another thread and
// be woken by it.
constexpr Bytes kPreparedAtOnce{2048};

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
  protocol::ContextLimit context_max;
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

}  // namespace pd::gateway
