// What is asked for: requests as a dataset describes them, before anything is sent. Pure; files are
// handed in as text.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/rng.h"
#include "base/time.h"
#include "load/prompt.h"

namespace pd::load {

// One request, or one turn of a conversation.
struct Ask {
  std::optional<Duration> at;  // from the start, where the dataset says so
  std::vector<Piece> prompt;   // of a later turn: only what the user says then
  std::uint32_t output_tokens = 0;
};

// Turns are asked one after the other, each with all that was said before it.
struct Conversation {
  std::vector<Ask> turns;  // at least one
};

// Draws one conversation after the other, without end.
using ConversationSource = std::function<Conversation()>;

struct Workload {
  std::vector<Conversation> conversations;  // all of them have times, or none
  // What follows them, drawn when it is asked: a load that ends by time takes as many as the server
  // answers, and a long one holds no more than is under way. Empty: nothing follows.
  ConversationSource more;
  std::string remark;  // what whoever quotes a figure must know; empty: nothing
  std::size_t asks() const;
};

// A length: always `low`, or evenly distributed over [low, high].
struct Lengths {
  std::uint32_t low = 0, high = 0;
  std::uint32_t draw(Rng& rng) const {
    return low + static_cast<std::uint32_t>(rng.below(std::uint64_t{high} - low + 1));
  }
};
// "128", "16:512".
Result<Lengths> parse_lengths(std::string_view text);

// Prompts that have nothing in common.
ConversationSource unrelated(Lengths input, Lengths output, Rng rng);
// Each prompt begins with one of `prefixes` texts of `prefix_tokens`.
ConversationSource shared_prefixes(std::uint32_t prefixes, std::uint32_t prefix_tokens,
                                   Lengths input, Lengths output, Rng rng);
// Conversations of so many turns; `system_tokens` begin all of them alike.
ConversationSource conversations(Lengths turns, std::uint32_t system_tokens, Lengths input,
                                 Lengths output, Rng rng);
// The first `count` of them.
Workload take(std::size_t count, const ConversationSource& source);

// Recordings. Errors name `name` and the line. `count`: the first so many.
// Mooncake JSON lines: timestamp (ms), input_length, output_length, hash_ids of 512 tokens each,
// which become equal pieces of text.
Result<Workload> read_mooncake(std::string_view text, std::string_view name, std::size_t count);
// CSV with a header: Azure's TIMESTAMP,ContextTokens,GeneratedTokens or
// arrived_at,num_prefill_tokens,num_decode_tokens (seconds). A file of lengths alone lacks the
// column of times, and its requests have none.
Result<Workload> read_csv_trace(std::string_view text, std::string_view name, std::size_t count);

// A client of ServeGen: chunk-N-trace.csv and, if there is one, chunk-N-dataset.json.
struct ServeGenClient {
  std::string name;
  std::string trace_csv;
  std::string dataset_json;  // empty: lengths are borrowed from another client
};
// A sample of [from, from + length) of the recorded rates and lengths, all clients together.
Result<Workload> sample_servegen(const std::vector<ServeGenClient>& clients, Duration from,
                                 Duration length, Rng& rng);

}  // namespace pd::load
