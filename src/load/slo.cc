#include "load/slo.h"

#include <fmt/format.h>

#include "protocol/config.h"

namespace pd::load {

Result<Slo> parse_slo(std::string_view text) {
  Slo out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view part = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const std::size_t equals = part.find('=');
    const std::string_view name = part.substr(0, equals);
    const auto limit =
        equals == part.npos ? std::nullopt : protocol::parse_duration(part.substr(equals + 1));
    std::optional<double>* field = name == "ttft"   ? &out.ttft_ms
                                   : name == "tpot" ? &out.tpot_ms
                                   : name == "e2e"  ? &out.e2e_ms
                                                    : nullptr;
    if (field == nullptr || !limit || *field) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("'{}' is not a limit: write ttft=500ms,tpot=50ms,e2e=10s or some of "
                               "them",
                               text));
    }
    *field = to_ms(*limit);
  }
  return out;
}

std::string to_string(const Slo& slo) {
  std::string out;
  const auto add = [&out](const char* name, const std::optional<double>& limit) {
    if (limit) out += fmt::format("{}{} <= {:g} ms", out.empty() ? "" : ", ", name, *limit);
  };
  add("TTFT", slo.ttft_ms);
  add("TPOT", slo.tpot_ms);
  add("E2E", slo.e2e_ms);
  return out;
}

}  // namespace pd::load
