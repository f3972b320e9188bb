#include "protocol/pd_messages.h"

#include <fmt/format.h>

#include <cmath>

#include "protocol/wire.h"

namespace pd::protocol {
namespace {

constexpr std::size_t kStringBytesMax = 64 * 1024;
constexpr std::size_t kMessageBytesMax = 4096;
constexpr std::size_t kStopsMax = 1024;
constexpr std::size_t kBiasMax = 4096;
constexpr std::size_t kTopMax = 1024;

enum class FrameType : std::uint8_t {
  kAccepted = 1,
  kRejected = 2,
  kTokens = 3,
  kPrefilled = 4,
  kReleased = 5,
  kEvicted = 6,
  kJoined = 7,
  kFault = 8,
  kRoom = 9
};

void write(WireWriter& out, const AttemptId& id) {
  out.number(id.request.high);
  out.number(id.request.low);
  out.number(id.attempt);
}

AttemptId read_attempt(WireReader& in) {
  AttemptId id;
  id.request.high = in.number<std::uint64_t>("request id");
  id.request.low = in.number<std::uint64_t>("request id");
  id.attempt = in.number<std::uint32_t>("attempt");
  return id;
}

void write_optional(WireWriter& out, const std::optional<std::int32_t>& value) {
  out.number(static_cast<std::int32_t>(value ? *value : -1));
}

std::optional<std::int32_t> read_optional(WireReader& in, const char* field) {
  const auto value = in.number<std::int32_t>(field);
  in.require(value >= -1 && value <= static_cast<std::int32_t>(kTopMax), field);
  return value < 0 ? std::nullopt : std::optional(value);
}

void write(WireWriter& out, const SamplingParams& p) {
  out.number(p.temperature);
  out.number(p.top_k);
  out.number(p.top_p);
  out.number(p.min_p);
  out.number(p.repetition_penalty);
  out.number(p.presence_penalty);
  out.number(p.frequency_penalty);
  out.number(p.seed);
  out.number(static_cast<std::uint32_t>(p.logit_bias.size()));
  for (const auto& [id, bias] : p.logit_bias) {
    out.number(id);
    out.number(bias);
  }
  out.number(p.max_tokens.value());
  out.number(p.min_tokens.value());
  out.number(static_cast<std::uint8_t>(p.ignore_eos));
  out.numbers(p.stop_ids);
  out.number(static_cast<std::uint32_t>(p.stop_strings.size()));
  for (const auto& stop : p.stop_strings) out.bytes(stop);
  write_optional(out, p.logprobs);
  write_optional(out, p.prompt_logprobs);
}

float read_float(WireReader& in, const char* field, float low, float high) {
  const auto value = in.number<float>(field);
  in.require(value >= low && value <= high, field);  // false for NaN
  return value;
}

SamplingParams read_sampling(WireReader& in) {
  SamplingParams p;
  p.temperature = read_float(in, "temperature", 0.0F, 100.0F);
  p.top_k = in.number<std::int32_t>("top_k");
  in.require(p.top_k >= 0, "top_k");
  p.top_p = read_float(in, "top_p", 0.0F, 1.0F);
  p.min_p = read_float(in, "min_p", 0.0F, 1.0F);
  p.repetition_penalty = read_float(in, "repetition_penalty", 1e-3F, 1e3F);
  p.presence_penalty = read_float(in, "presence_penalty", -100.0F, 100.0F);
  p.frequency_penalty = read_float(in, "frequency_penalty", -100.0F, 100.0F);
  p.seed = in.number<std::uint64_t>("seed");
  const auto biases = in.count("logit_bias", kBiasMax, 8);
  for (std::uint32_t i = 0; i < biases; ++i) {
    const auto id = in.number<TokenId>("logit_bias");
    p.logit_bias.emplace_back(id, read_float(in, "logit_bias", -1e4F, 1e4F));
  }
  p.max_tokens = Tokens(in.number<std::int64_t>("max_tokens"));
  p.min_tokens = Tokens(in.number<std::int64_t>("min_tokens"));
  in.require(
      p.max_tokens.value() >= 0 && p.max_tokens.value() <= static_cast<std::int64_t>(kTokensMax),
      "max_tokens");
  in.require(
      p.min_tokens.value() >= 0 && p.min_tokens.value() <= static_cast<std::int64_t>(kTokensMax),
      "min_tokens");
  const auto ignore_eos = in.number<std::uint8_t>("ignore_eos");
  in.require(ignore_eos <= 1, "ignore_eos");
  p.ignore_eos = ignore_eos == 1;
  in.numbers(p.stop_ids, "stop_ids", kStopsMax);
  const auto stops = in.count("stop", kStopsMax, 4);
  for (std::uint32_t i = 0; i < stops; ++i)
    p.stop_strings.emplace_back(in.bytes("stop", kStringBytesMax));
  p.logprobs = read_optional(in, "logprobs");
  p.prompt_logprobs = read_optional(in, "prompt_logprobs");
  return p;
}

void write(WireWriter& out, const std::vector<TokenLogprobs>& list) {
  const auto entry = [&](const LogprobEntry& e) {
    out.number(e.id);
    out.number(e.logprob);
  };
  out.number(static_cast<std::uint32_t>(list.size()));
  for (const auto& token : list) {
    entry(token.chosen);
    out.number(static_cast<std::uint32_t>(token.top.size()));
    for (const auto& e : token.top) entry(e);
  }
}

std::vector<TokenLogprobs> read_logprobs(WireReader& in, const char* field) {
  const auto entry = [&] {
    LogprobEntry e;
    e.id = in.number<TokenId>(field);
    e.logprob = in.number<float>(field);
    return e;
  };
  std::vector<TokenLogprobs> list(in.count(field, kTokensMax, 12));
  for (auto& token : list) {
    token.chosen = entry();
    token.top.resize(in.count(field, kTopMax, 8));
    for (auto& e : token.top) e = entry();
  }
  return list;
}

template <typename T>
Result<T> finish(WireReader& in, T value, const char* message) {
  in.end();
  if (!in.ok()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: bad or missing field '{}'", message, in.failed_field()));
  }
  return value;
}

void read_version(WireReader& in) {
  in.require(in.number<std::uint16_t>("wire version") == kWireVersion, "wire version");
}

}  // namespace

std::string encode(const PrefillRequest& m) {
  std::string bytes;
  bytes.reserve(256 + 4 * (m.prompt.size() + m.emitted.size()));
  WireWriter out(bytes);
  out.number(kWireVersion);
  write(out, m.id);
  out.number(m.layout_hash);
  out.number(m.deadline_ms);
  out.number(m.tenant_salt);
  out.number(static_cast<std::uint8_t>(m.warm_up));
  out.numbers(m.prompt);
  out.numbers(m.emitted);
  write(out, m.sampling);
  return bytes;
}

Result<PrefillRequest> decode_prefill_request(std::string_view bytes) {
  WireReader in(bytes);
  PrefillRequest m;
  read_version(in);
  m.id = read_attempt(in);
  m.layout_hash = in.number<std::uint64_t>("layout hash");
  m.deadline_ms = in.number<std::uint32_t>("deadline");
  m.tenant_salt = in.number<std::uint64_t>("tenant salt");
  const auto warm_up = in.number<std::uint8_t>("warm-up");
  in.require(warm_up <= 1, "warm-up");
  m.warm_up = warm_up == 1;
  in.numbers(m.prompt, "prompt", kTokensMax);
  in.numbers(m.emitted, "emitted", kTokensMax);
  m.sampling = read_sampling(in);
  in.require(!m.prompt.empty(), "prompt");
  return finish(in, std::move(m), "prefill request");
}

std::string encode(const DecodeRequest& m) {
  std::string bytes;
  bytes.reserve(512 + 4 * (m.prompt.size() + m.emitted.size()) + m.descriptor.size());
  WireWriter out(bytes);
  out.number(kWireVersion);
  write(out, m.id);
  out.number(m.layout_hash);
  out.number(m.deadline_ms);
  out.number(m.prompt_tokens);
  out.number(m.prompt_last);
  out.numbers(m.prompt);
  out.numbers(m.emitted);
  out.number(m.evictions);
  write(out, m.sampling);
  out.bytes(m.descriptor);
  return bytes;
}

Result<DecodeRequest> decode_decode_request(std::string_view bytes) {
  WireReader in(bytes);
  DecodeRequest m;
  read_version(in);
  m.id = read_attempt(in);
  m.layout_hash = in.number<std::uint64_t>("layout hash");
  m.deadline_ms = in.number<std::uint32_t>("deadline");
  m.prompt_tokens = in.number<std::uint32_t>("prompt tokens");
  m.prompt_last = in.number<TokenId>("last prompt token");
  in.numbers(m.prompt, "prompt", kTokensMax);
  in.numbers(m.emitted, "emitted", kTokensMax);
  m.evictions = in.number<std::uint32_t>("evictions");
  in.require(m.evictions <= kTokensMax, "evictions");
  m.sampling = read_sampling(in);
  m.descriptor = std::string(in.bytes("descriptor", kStringBytesMax));
  in.require(!m.emitted.empty(), "emitted");
  in.require(m.prompt_tokens >= 1 && m.prompt_tokens <= kTokensMax, "prompt tokens");
  in.require(m.prompt.empty() || m.prompt.size() == m.prompt_tokens, "prompt");
  return finish(in, std::move(m), "decode request");
}

std::string encode(const LeaseList& m) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kWireVersion);
  out.number(static_cast<std::uint32_t>(m.held.size()));
  for (const auto& id : m.held) write(out, id);
  return bytes;
}

Result<LeaseList> decode_lease_list(std::string_view bytes) {
  WireReader in(bytes);
  LeaseList m;
  read_version(in);
  m.held.resize(in.count("leases", kTokensMax, 20));
  for (auto& id : m.held) id = read_attempt(in);
  return finish(in, std::move(m), "lease list");
}

namespace {

void write(WireWriter& out, const Room& room) {
  out.number(room.requests);
  out.number(room.places);
  out.number(room.blocks_free);
  out.number(room.blocks_spare);
  out.number(room.block_tokens);
  out.number(room.growth_tokens);
}

Room read_room(WireReader& in) {
  Room room;
  room.requests = in.number<std::uint32_t>("requests");
  room.places = in.number<std::uint32_t>("places");
  room.blocks_free = in.number<std::uint32_t>("free blocks");
  room.blocks_spare = in.number<std::uint32_t>("spare blocks");
  room.block_tokens = in.number<std::uint32_t>("block tokens");
  in.require(room.block_tokens >= 1 && room.block_tokens <= kTokensMax, "block tokens");
  room.growth_tokens = in.number<std::uint32_t>("growth");
  return room;
}

}  // namespace

std::string encode(const LeaseAnswer& m) {
  std::string bytes = encode(LeaseList{m.unknown});
  WireWriter out(bytes);
  out.number(static_cast<std::uint8_t>(m.room.has_value()));
  if (m.room) write(out, *m.room);
  return bytes;
}

Result<LeaseAnswer> decode_lease_answer(std::string_view bytes) {
  WireReader in(bytes);
  LeaseAnswer m;
  read_version(in);
  m.unknown.resize(in.count("leases", kTokensMax, 20));
  for (auto& id : m.unknown) id = read_attempt(in);
  const auto stated = in.number<std::uint8_t>("room");
  in.require(stated <= 1, "room");
  if (stated == 1) m.room = read_room(in);
  return finish(in, std::move(m), "lease answer");
}

namespace {

// The payload of each frame type; append_frame puts length and type in front.
struct PayloadWriter {
  WireWriter& out;
  FrameType operator()(const Accepted&) { return FrameType::kAccepted; }
  FrameType operator()(const Rejected& f) {
    out.number(static_cast<std::uint8_t>(f.reason));
    out.number(f.retry_after_us);
    return FrameType::kRejected;
  }
  FrameType operator()(const TokensFrame& f) {
    out.number(f.index);
    out.numbers(f.ids);
    out.bytes(f.text);
    out.number(static_cast<std::uint8_t>(f.finish));
    write(out, f.logprobs);
    return FrameType::kTokens;
  }
  FrameType operator()(const Prefilled& f) {
    out.bytes(f.descriptor);
    out.number(f.cached_tokens);
    out.number(f.queue_us);
    out.number(f.compute_us);
    write(out, f.prompt_logprobs);
    return FrameType::kPrefilled;
  }
  FrameType operator()(const Released& f) {
    out.number(static_cast<std::uint8_t>(f.why));
    return FrameType::kReleased;
  }
  FrameType operator()(const Evicted&) { return FrameType::kEvicted; }
  FrameType operator()(const Joined& f) {
    out.number(f.transfer_us);
    out.number(f.bytes);
    out.number(f.pieces);
    return FrameType::kJoined;
  }
  FrameType operator()(const Room& f) {
    write(out, f);
    return FrameType::kRoom;
  }
  FrameType operator()(const Fault& f) {
    out.number(static_cast<std::uint8_t>(f.code));
    out.bytes(std::string_view(f.message).substr(0, kMessageBytesMax));
    return FrameType::kFault;
  }
};

template <typename Enum>
Enum read_enum(WireReader& in, const char* field, Enum last) {
  const auto value = in.number<std::uint8_t>(field);
  in.require(value <= static_cast<std::uint8_t>(last), field);
  return static_cast<Enum>(value);
}

TokensFrame read_tokens(WireReader& in) {
  TokensFrame f;
  f.index = in.number<std::uint32_t>("index");
  in.numbers(f.ids, "ids", kTokensMax);
  f.text = std::string(in.bytes("text", kFrameBytesMax));
  f.finish = read_enum(in, "finish", FinishReason::kLength);
  f.logprobs = read_logprobs(in, "logprobs");
  in.require(f.logprobs.empty() || f.logprobs.size() == f.ids.size(), "logprobs");
  return f;
}

Prefilled read_prefilled(WireReader& in) {
  Prefilled f;
  f.descriptor = std::string(in.bytes("descriptor", kStringBytesMax));
  f.cached_tokens = in.number<std::uint32_t>("cached tokens");
  f.queue_us = in.number<std::uint32_t>("queue time");
  f.compute_us = in.number<std::uint32_t>("compute time");
  f.prompt_logprobs = read_logprobs(in, "prompt logprobs");
  return f;
}

Joined read_joined(WireReader& in) {
  Joined f;
  f.transfer_us = in.number<std::uint32_t>("transfer time");
  f.bytes = in.number<std::uint64_t>("bytes");
  f.pieces = in.number<std::uint32_t>("pieces");
  return f;
}

Fault read_fault(WireReader& in) {
  Fault f;
  f.code = read_enum(in, "code", ErrorCode::kInternal);
  f.message = std::string(in.bytes("message", kMessageBytesMax));
  return f;
}

Result<Frame> decode_frame(std::uint8_t type, std::string_view payload) {
  WireReader in(payload);
  Frame frame;
  switch (static_cast<FrameType>(type)) {
    case FrameType::kAccepted:
      frame = Accepted{};
      break;
    case FrameType::kRejected: {
      Rejected f;
      f.reason = read_enum(in, "reason", RejectReason::kNotReady);
      f.retry_after_us = in.number<std::uint32_t>("retry after");
      frame = f;
      break;
    }
    case FrameType::kTokens:
      frame = read_tokens(in);
      break;
    case FrameType::kPrefilled:
      frame = read_prefilled(in);
      break;
    case FrameType::kReleased:
      frame = Released{read_enum(in, "why", Released::Why::kHandoffFailed)};
      break;
    case FrameType::kEvicted:
      frame = Evicted{};
      break;
    case FrameType::kJoined:
      frame = read_joined(in);
      break;
    case FrameType::kFault:
      frame = read_fault(in);
      break;
    case FrameType::kRoom:
      frame = read_room(in);
      break;
    default:
      return error(ErrorCode::kInvalidArgument, fmt::format("frame: unknown type {}", type));
  }
  return finish(in, std::move(frame), "frame");
}

constexpr std::size_t kFrameHeaderBytes = 5;

}  // namespace

void append_frame(std::string& out, const Frame& frame) {
  const std::size_t start = out.size();
  out.append(kFrameHeaderBytes, '\0');
  WireWriter writer(out);
  const FrameType type = std::visit(PayloadWriter{writer}, frame);
  const auto length = static_cast<std::uint32_t>(out.size() - start - kFrameHeaderBytes);
  std::memcpy(out.data() + start, &length, sizeof(length));
  out[start + 4] = static_cast<char>(type);
}

void FrameReader::feed(std::string_view bytes) {
  if (start_ > 0) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  buffer_.append(bytes);
}

Result<std::optional<Frame>> FrameReader::next() {
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  if (rest.size() < kFrameHeaderBytes) return std::nullopt;
  std::uint32_t length = 0;
  std::memcpy(&length, rest.data(), sizeof(length));
  if (length > kFrameBytesMax) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("frame: length {} over the limit of {}", length, kFrameBytesMax));
  }
  if (rest.size() - kFrameHeaderBytes < length) return std::nullopt;
  auto frame =
      decode_frame(static_cast<std::uint8_t>(rest[4]), rest.substr(kFrameHeaderBytes, length));
  if (!frame) return std::unexpected(frame.error());
  start_ += kFrameHeaderBytes + length;
  return std::optional<Frame>(std::move(*frame));
}

}  // namespace pd::protocol
