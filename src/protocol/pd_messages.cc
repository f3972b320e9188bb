#include "protocol/pd_messages.h"

#include <fmt/format.h>

#include <cmath>

#include "protocol/pd_wire.h"

namespace pd::protocol {
namespace {

constexpr std::size_t kStopsMax = 1024;
constexpr std::size_t kBiasMax = 4096;

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

void read_version(WireReader& in) {
  in.require(in.number<std::uint16_t>("wire version") == kWireVersion, "wire version");
}

}  // namespace

void append(std::string& bytes, const PrefillRequest& m) {
  bytes.reserve(bytes.size() + 256 + 4 * (m.prompt.size() + m.emitted.size()));
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
}

std::string encode(const PrefillRequest& m) {
  std::string bytes;
  append(bytes, m);
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

void append(std::string& bytes, const DecodeRequest& m) {
  bytes.reserve(bytes.size() + 512 + 4 * (m.prompt.size() + m.emitted.size()) +
                m.descriptor.size());
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
  out.number(static_cast<std::uint8_t>(m.streamed));
  write(out, m.sampling);
  out.bytes(m.descriptor);
}

std::string encode(const DecodeRequest& m) {
  std::string bytes;
  append(bytes, m);
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
  const auto streamed = in.number<std::uint8_t>("streamed");
  in.require(streamed <= 1, "streamed");
  m.streamed = streamed == 1;
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

}  // namespace pd::protocol
