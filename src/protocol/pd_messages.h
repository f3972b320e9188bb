// What gateway and workers say to each other. Fixed schema, little-endian, every length checked
// before it is used; nothing on the wire names code or a type to build (G7).
//
//   GET /pd/v1/legs       changes the connection to kLegProtocol: the channel of all legs between
//                         the two. Commands one way:
//                           PrefillRequest, DecodeRequest   begin a leg
//                           CancelLeg                       ends it: nobody wants what it holds
//                         leg frames the other way; of a prefill Accepted | Rejected | Fault, then
//                         Prefilled, Tokens (the first one), and Released when D has pulled the KV
//                         (or the lease ended); of a decode Accepted | Rejected | Fault, then
//                         Tokens ... until one of them carries a finish reason, or Evicted; Room
//                         before Accepted, before Rejected and before the last frame.
//                         Of no leg (its AttemptId is all zeros): Vacant, of a D after Room, to one
//                         that was rejected before: a place has become free.
//                         Closing it cancels every leg on it.
//   POST /pd/v1/renew     body LeaseList      -> LeaseAnswer
//
// A command and a frame are u32 payload length, u8 type, payload; a leg frame is the leg's
// AttemptId and a frame. Encoders cannot fail; decoders return kInvalidArgument with the field's
// name, and never allocate more than the input's size implies.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "protocol/sampling_params.h"

namespace pd::protocol {

inline constexpr std::uint16_t kWireVersion = 5;
inline constexpr std::string_view kLegProtocol = "pdserve-legs-5";  // with the wire's version
inline constexpr std::size_t kFrameBytesMax = 16 * 1024 * 1024;
inline constexpr std::size_t kCommandBytesMax = 64 * 1024 * 1024;
inline constexpr std::size_t kTokensMax = 4 * 1024 * 1024;  // of one list on the wire

// One placement of a request: names what a worker holds.
struct AttemptId {
  RequestId request;
  std::uint32_t attempt = 0;
  constexpr auto operator<=>(const AttemptId&) const = default;
};
inline constexpr AttemptId kNoLeg{};

struct PrefillRequest {
  AttemptId id;
  std::uint64_t layout_hash = 0;  // KvLayout::hash() of the group; another one is refused (G31)
  std::uint32_t deadline_ms =
      0;  // time left until the request's absolute deadline; 0: already over
  std::uint64_t tenant_salt = 0;  // from the credential, never from the client (G30)
  // From the controller: uses the place that is kept for warm-ups. All others may be taken by
  // requests that wait for the very D that is to be warmed up.
  bool warm_up = false;
  std::vector<TokenId> prompt;
  std::vector<TokenId> emitted;  // output so far (resume); prefilled after the prompt
  SamplingParams sampling;
  bool operator==(const PrefillRequest&) const = default;
};

struct DecodeRequest {
  AttemptId id;
  std::uint64_t layout_hash = 0;
  std::uint32_t deadline_ms = 0;
  std::uint32_t prompt_tokens = 0;  // length of the prompt
  TokenId prompt_last = 0;          // its last token: the output's text continues it
  std::vector<TokenId> prompt;      // empty unless sampling.repetition_penalty != 1
  std::vector<TokenId>
      emitted;  // output so far, at least 1; the last one's KV is not in the range yet
  std::uint32_t evictions = 0;  // by D's that were short of memory, so far
  bool streamed = true;  // each token is read when it comes; otherwise several may come together
  SamplingParams sampling;
  std::string descriptor;  // an encoded KvDescriptor, from Prefilled
  bool operator==(const DecodeRequest&) const = default;
};

struct CancelLeg {
  AttemptId id;
  bool operator==(const CancelLeg&) const = default;
};

struct LeaseList {
  std::vector<AttemptId> held;
  bool operator==(const LeaseList&) const = default;
};

// What a D has left. The figures are exact when it says so, and its accept or reject is the truth.
struct Room {
  std::uint32_t requests = 0;      // in its batch or about to join
  std::uint32_t places = 0;        // free ones
  std::uint32_t blocks_free = 0;   // of its KV memory
  std::uint32_t blocks_spare = 0;  // those, less what its requests are expected to grow by
  std::uint32_t block_tokens = 1;
  std::uint32_t growth_tokens = 0;  // output expected of a request that begins
  std::uint32_t hold_us = 0;        // how long a request holds a place; 0: none has ended yet
  bool operator==(const Room&) const = default;
};

struct LeaseAnswer {
  std::vector<AttemptId> unknown;  // the worker does not hold these (any more)
  std::optional<Room> room;        // of a D
  bool operator==(const LeaseAnswer&) const = default;
};

struct Accepted {
  bool operator==(const Accepted&) const = default;
};
enum class RejectReason : std::uint8_t { kBusy = 0, kDraining = 1, kNotReady = 2 };
struct Rejected {  // busy is not broken
  RejectReason reason = RejectReason::kBusy;
  std::uint32_t retry_after_us = 0;  // when a place is expected to free
  bool operator==(const Rejected&) const = default;
};
struct LogprobEntry {
  TokenId id = 0;
  float logprob = 0.0F;
  bool operator==(const LogprobEntry&) const = default;
};
struct TokenLogprobs {
  LogprobEntry chosen;
  std::vector<LogprobEntry> top;
  bool operator==(const TokenLogprobs&) const = default;
};
struct TokensFrame {
  std::uint32_t index = 0;   // output index of ids[0], over all attempts
  std::vector<TokenId> ids;  // newly emitted
  std::string text;          // UTF-8 that became final with them; may be empty or lag behind
  FinishReason finish = FinishReason::kNone;
  std::vector<TokenLogprobs> logprobs;  // one per id, or empty
  bool operator==(const TokensFrame&) const = default;
};
struct Prefilled {                  // the first token is out; P holds the KV under a lease
  std::string descriptor;           // an encoded KvDescriptor; empty when the request finished on P
  std::uint32_t cached_tokens = 0;  // of the prompt, taken from the prefix cache
  std::uint32_t queue_us =
      0;  // stage times on P: accepted -> first chunk, first chunk -> first token
  std::uint32_t compute_us = 0;
  std::vector<TokenLogprobs>
      prompt_logprobs;  // when asked: one per prompt token from the second on
  bool operator==(const Prefilled&) const = default;
};
struct Released {  // P holds nothing of this attempt any more
  enum class Why : std::uint8_t {
    kPulled = 0,
    kFinished = 1,
    kLeaseEnded = 2,
    kCancelled = 3,
    kHandoffFailed = 4
  };
  Why why = Why::kPulled;
  bool operator==(const Released&) const = default;
};
struct Evicted {  // D is out of blocks: place the request again; nothing is wrong with it
  bool operator==(const Evicted&) const = default;
};
struct Joined {  // D has the KV; the request is in the batch
  std::uint32_t transfer_us = 0;
  std::uint64_t bytes = 0;
  std::uint32_t pieces = 0;
  bool operator==(const Joined&) const = default;
};
struct Vacant {  // no promise: whoever asks first has the place
  bool operator==(const Vacant&) const = default;
};
struct Fault {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  bool operator==(const Fault&) const = default;
};

using Frame = std::variant<Accepted, Rejected, TokensFrame, Prefilled, Released, Evicted, Joined,
                           Fault, Room, Vacant>;

std::string encode(const PrefillRequest& message);
std::string encode(const DecodeRequest& message);
std::string encode(const LeaseList& message);
std::string encode(const LeaseAnswer& message);
Result<PrefillRequest> decode_prefill_request(std::string_view bytes);
Result<DecodeRequest> decode_decode_request(std::string_view bytes);
Result<LeaseList> decode_lease_list(std::string_view bytes);
Result<LeaseAnswer> decode_lease_answer(std::string_view bytes);

using LegCommand = std::variant<PrefillRequest, DecodeRequest, CancelLeg>;
void append_command(std::string& out, const PrefillRequest& message);
void append_command(std::string& out, const DecodeRequest& message);
void append_command(std::string& out, const CancelLeg& message);

struct LegFrame {
  AttemptId leg;
  Frame frame;
};
// One after the other they are a leg frame.
void append_leg(std::string& out, const AttemptId& leg);
void append_frame(std::string& out, const Frame& frame);

// What is left of a byte stream's message until the rest of it comes.
class PartialMessage {
 public:
  // What there is, the kept part first; all of `input` then belongs to it. Valid until used().
  std::string_view with(std::string_view& input);
  void used(std::string_view& input, std::size_t bytes);
  void keep(std::string_view& input);  // for the next time
  bool empty() const { return start_ == kept_.size(); }

 private:
  std::string kept_;
  std::size_t start_ = 0;
};

// Leg frames out of a byte stream, in any cut. Takes what it uses from the front of `input`;
// nullptr: all of it, and more is needed. A frame is valid until the next call. After an error the
// stream is unusable.
class LegFrameReader {
 public:
  Result<const LegFrame*> next(std::string_view& input);
  bool empty() const { return partial_.empty(); }  // no partial frame is left over

 private:
  PartialMessage partial_;
  LegFrame frame_;
};

// The same for commands; they are the caller's.
class LegCommandReader {
 public:
  Result<std::optional<LegCommand>> next(std::string_view& input);
  bool empty() const { return partial_.empty(); }

 private:
  PartialMessage partial_;
};

}  // namespace pd::protocol
