#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "protocol/pd_messages.h"
#include "protocol/pd_wire.h"

namespace pd::protocol {
namespace {

constexpr std::size_t kMessageBytesMax = 4096;

enum class FrameType : std::uint8_t {
  kAccepted = 1,
  kRejected = 2,
  kTokens = 3,
  kPrefilled = 4,
  kReleased = 5,
  kEvicted = 6,
  kJoined = 7,
  kFault = 8,
  kRoom = 9,
  kVacant = 10
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
  FrameType operator()(const Vacant&) { return FrameType::kVacant; }
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

void read_tokens(WireReader& in, TokensFrame& f) {
  f.index = in.number<std::uint32_t>("index");
  in.numbers(f.ids, "ids", kTokensMax);
  f.text.assign(in.bytes("text", kFrameBytesMax));
  f.finish = read_enum(in, "finish", FinishReason::kLength);
  f.logprobs = read_logprobs(in, "logprobs");
  in.require(f.logprobs.empty() || f.logprobs.size() == f.ids.size(), "logprobs");
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

// Into `frame` in place: most are tokens after tokens, whose memory is used again.
Status read_frame(std::uint8_t type, std::string_view payload, Frame& frame) {
  WireReader in(payload);
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
    case FrameType::kTokens: {
      auto* tokens = std::get_if<TokensFrame>(&frame);
      read_tokens(in, tokens != nullptr ? *tokens : frame.emplace<TokensFrame>());
      break;
    }
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
    case FrameType::kVacant:
      frame = Vacant{};
      break;
    default:
      return error(ErrorCode::kInvalidArgument, fmt::format("frame: unknown type {}", type));
  }
  if (auto done = finish(in, true, "frame"); !done) return std::unexpected(done.error());
  return {};
}

constexpr std::size_t kHeaderBytes = 5;  // length, type
constexpr std::size_t kLegBytes = 20;
// A buffer above this is given back when it is empty.
constexpr std::size_t kKeptBytesMax = 64 * 1024;

enum class CommandType : std::uint8_t { kPrefill = 1, kDecode = 2, kCancel = 3 };

// Runs `payload`, which appends to `out` and returns the type, and puts the header in front.
template <typename Payload>
void append_with_header(std::string& out, Payload&& payload) {
  const std::size_t start = out.size();
  out.append(kHeaderBytes, '\0');
  const auto type = static_cast<char>(payload());
  const auto length = static_cast<std::uint32_t>(out.size() - start - kHeaderBytes);
  std::memcpy(out.data() + start, &length, sizeof(length));
  out[start + 4] = type;
}

struct Header {
  std::uint8_t type = 0;
  std::string_view payload;
};

// nullopt: more bytes are needed.
Result<std::optional<Header>> read_header(std::string_view rest, const char* what,
                                          std::size_t bytes_max) {
  if (rest.size() < kHeaderBytes) return std::nullopt;
  std::uint32_t length = 0;
  std::memcpy(&length, rest.data(), sizeof(length));
  if (length > bytes_max) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: length {} over the limit of {}", what, length, bytes_max));
  }
  if (rest.size() - kHeaderBytes < length) return std::nullopt;
  return Header{static_cast<std::uint8_t>(rest[4]), rest.substr(kHeaderBytes, length)};
}

Result<LegCommand> decode_command(const Header& header) {
  const auto as_command = [](auto decoded) -> Result<LegCommand> {
    if (!decoded) return std::unexpected(std::move(decoded.error()));
    return LegCommand(std::move(*decoded));
  };
  switch (static_cast<CommandType>(header.type)) {
    case CommandType::kPrefill:
      return as_command(decode_prefill_request(header.payload));
    case CommandType::kDecode:
      return as_command(decode_decode_request(header.payload));
    case CommandType::kCancel: {
      WireReader in(header.payload);
      const CancelLeg cancel{read_attempt(in)};
      return as_command(finish(in, cancel, "cancel"));
    }
  }
  return error(ErrorCode::kInvalidArgument, fmt::format("command: unknown type {}", header.type));
}

}  // namespace

void append_frame(std::string& out, const Frame& frame) {
  WireWriter writer(out);
  append_with_header(out, [&] { return std::visit(PayloadWriter{writer}, frame); });
}

void append_leg(std::string& out, const AttemptId& leg) {
  WireWriter writer(out);
  write(writer, leg);
}

void append_command(std::string& out, const PrefillRequest& message) {
  append_with_header(out, [&] {
    append(out, message);
    return CommandType::kPrefill;
  });
}

void append_command(std::string& out, const DecodeRequest& message) {
  append_with_header(out, [&] {
    append(out, message);
    return CommandType::kDecode;
  });
}

void append_command(std::string& out, const CancelLeg& message) {
  append_with_header(out, [&] {
    append_leg(out, message.id);
    return CommandType::kCancel;
  });
}

std::string_view PartialMessage::with(std::string_view& input) {
  if (kept_.empty()) return input;
  if (!input.empty()) {
    kept_.erase(0, std::exchange(start_, 0));
    kept_.append(std::exchange(input, {}));
  }
  return std::string_view(kept_).substr(start_);
}

void PartialMessage::used(std::string_view& input, std::size_t bytes) {
  if (kept_.empty()) return input.remove_prefix(bytes);
  start_ += bytes;
  if (start_ < kept_.size()) return;
  kept_.clear();
  start_ = 0;
  if (kept_.capacity() > kKeptBytesMax) std::string().swap(kept_);
}

void PartialMessage::keep(std::string_view& input) {
  if (kept_.empty()) kept_ = std::exchange(input, {});
}

Result<const LegFrame*> LegFrameReader::next(std::string_view& input) {
  const std::string_view rest = partial_.with(input);
  const auto header =
      read_header(rest.substr(std::min(rest.size(), kLegBytes)), "frame", kFrameBytesMax);
  if (!header) return std::unexpected(header.error());
  if (!*header) {
    partial_.keep(input);
    return nullptr;
  }
  if (auto read = read_frame((*header)->type, (*header)->payload, frame_.frame); !read)
    return std::unexpected(std::move(read.error()));
  WireReader in(rest.substr(0, kLegBytes));
  frame_.leg = read_attempt(in);
  partial_.used(input, kLegBytes + kHeaderBytes + (*header)->payload.size());
  return &frame_;
}

Result<std::optional<LegCommand>> LegCommandReader::next(std::string_view& input) {
  const std::string_view rest = partial_.with(input);
  const auto header = read_header(rest, "command", kCommandBytesMax);
  if (!header) return std::unexpected(header.error());
  if (!*header) {
    partial_.keep(input);
    return std::nullopt;
  }
  auto command = decode_command(**header);
  if (!command) return std::unexpected(std::move(command.error()));
  partial_.used(input, kHeaderBytes + (*header)->payload.size());
  return std::optional<LegCommand>(std::move(*command));
}

}  // namespace pd::protocol
