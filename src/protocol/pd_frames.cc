#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "protocol/pd_messages.h"
#include "protocol/pd_wire.h"

namespace pd::protocol {
namespace {

constexpr std::size_t kStringBytesMax = 64 * 1024;
constexpr std::size_t kMessageBytesMax = 4096;
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

}  // namespace

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
constexpr std::size_t kLegBytes = 20;

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

void append_leg(std::string& out, const AttemptId& leg) {
  WireWriter writer(out);
  write(writer, leg);
}

namespace {

void feed_buffer(std::string& buffer, std::size_t& start, std::string_view bytes) {
  buffer.erase(0, std::exchange(start, 0));
  buffer.append(bytes);
}

// The frame at the front of `rest`; its size is added to `used`.
Result<std::optional<Frame>> take_frame(std::string_view rest, std::size_t& used) {
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
  used += kFrameHeaderBytes + length;
  return std::optional<Frame>(std::move(*frame));
}

}  // namespace

void FrameReader::feed(std::string_view bytes) { feed_buffer(buffer_, start_, bytes); }

Result<std::optional<Frame>> FrameReader::next() {
  return take_frame(std::string_view(buffer_).substr(start_), start_);
}

void LegFrameReader::feed(std::string_view bytes) { feed_buffer(buffer_, start_, bytes); }

Result<std::optional<LegFrame>> LegFrameReader::next() {
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  if (rest.size() < kLegBytes) return std::nullopt;
  std::size_t used = kLegBytes;
  auto frame = take_frame(rest.substr(kLegBytes), used);
  if (!frame) return std::unexpected(frame.error());
  if (!*frame) return std::nullopt;
  WireReader in(rest.substr(0, kLegBytes));
  start_ += used;
  return LegFrame{read_attempt(in), std::move(**frame)};
}

}  // namespace pd::protocol
