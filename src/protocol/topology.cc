#include "protocol/topology.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace pd::protocol {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kInstancesMax = 100'000;

std::unexpected<Error> bad(std::string_view field) {
  return error(ErrorCode::kInvalidArgument,
               fmt::format("topology: bad or missing field '{}'", field));
}

template <typename T>
bool read(const Json& object, const char* name, T& out) {
  const auto it = object.find(name);
  if (it == object.end()) return false;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!it->is_string()) return false;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!it->is_boolean()) return false;
  } else {
    if (!it->is_number_unsigned() &&
        !(it->is_number_integer() && it->template get<std::int64_t>() >= 0))
      return false;
    if (it->template get<std::uint64_t>() >
        static_cast<std::uint64_t>(std::numeric_limits<T>::max()))
      return false;
  }
  out = it->template get<T>();
  return true;
}

bool read_hex(const Json& object, const char* name, std::uint64_t& out) {
  std::string text;
  if (!read(object, name, text)) return false;
  const auto value = from_hex(text);
  if (value) out = *value;
  return value.has_value();
}

Result<Instance> parse_instance(const Json& json) {
  if (!json.is_object()) return bad("instances");
  Instance out;
  std::uint64_t id = 0, boot = 0;
  std::string role;
  if (!read(json, "id", id)) return bad("id");
  if (!read_hex(json, "boot", boot)) return bad("boot");
  if (!read(json, "address", out.address)) return bad("address");
  if (!read(json, "role", role)) return bad("role");
  if (!read(json, "slots", out.slots)) return bad("slots");
  if (!read(json, "batch_places", out.batch_places)) return bad("batch_places");
  if (!read(json, "admits", out.admits)) return bad("admits");
  auto parsed = parse_role(role);
  if (!parsed) return std::unexpected(parsed.error());
  out.id = WorkerId(id);
  out.boot = BootId(boot);
  out.role = *parsed;
  return out;
}

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::kNone:
      return "none";
    case Role::kPrefill:
      return "prefill";
    case Role::kDecode:
      return "decode";
    case Role::kBoth:
      return "both";
  }
  return "none";
}

Result<Role> parse_role(std::string_view text) {
  for (const auto role :
       {Role::kNone, Role::kPrefill, Role::kDecode, Role::kBoth}) {
    if (text == to_string(role)) return role;
  }
  return error(ErrorCode::kInvalidArgument,
               fmt::format("role '{}': must be prefill, decode, both or none", text));
}

std::string to_json(const Topology& topology) {
  Json instances = Json::array();
  for (const Instance& i : topology.instances) {
    instances.push_back({{"id", i.id.value()},
                         {"boot", to_hex(i.boot.value())},
                         {"address", i.address},
                         {"role", to_string(i.role)},
                         {"slots", i.slots},
                         {"batch_places", i.batch_places},
                         {"admits", i.admits}});
  }
  return Json{{"revision", topology.revision},
              {"fence", topology.fence},
              {"layout_hash", to_hex(topology.layout_hash)},
              {"instances", std::move(instances)}}
      .dump();
}

Result<Topology> parse_topology(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return error(ErrorCode::kInvalidArgument, "topology: not a JSON object");
  Topology out;
  if (!read(json, "revision", out.revision)) return bad("revision");
  if (!read(json, "fence", out.fence)) return bad("fence");
  if (!read_hex(json, "layout_hash", out.layout_hash)) return bad("layout_hash");
  const auto instances = json.find("instances");
  if (instances == json.end() || !instances->is_array() || instances->size() > kInstancesMax)
    return bad("instances");
  for (const Json& item : *instances) {
    auto instance = parse_instance(item);
    if (!instance) return std::unexpected(instance.error());
    out.instances.push_back(std::move(*instance));
  }
  return out;
}

}  // namespace pd::protocol
