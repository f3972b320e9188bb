#include "protocol/topology.h"

#include <algorithm>

#include "protocol/json_fields.h"

namespace pd::protocol {
namespace {

constexpr std::size_t kInstancesMax = 100'000;

Instance parse_instance(JsonFields& in) {
  Instance out;
  out.id = WorkerId(in.natural<std::uint64_t>("id"));
  out.boot = BootId(in.hex("boot"));
  out.address = in.text("address");
  out.role = in.role("role");
  out.slots = in.natural<int>("slots");
  out.batch_places = in.natural<int>("batch_places");
  out.admits = in.boolean("admits");
  out.kv_max = Tokens(in.natural<std::int64_t>("kv_tokens"));
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
  for (const auto role : {Role::kNone, Role::kPrefill, Role::kDecode, Role::kBoth}) {
    if (text == to_string(role)) return role;
  }
  return error(ErrorCode::kInvalidArgument,
               fmt::format("role '{}': must be prefill, decode, both or none", text));
}

Tokens kv_max(const Topology& topology) {
  Tokens most(0);
  for (const Instance& instance : topology.instances) {
    if (!decodes(instance.role)) continue;
    if (instance.kv_max == Tokens(0)) return Tokens(0);
    most = std::max(most, instance.kv_max);
  }
  return most;
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
                         {"admits", i.admits},
                         {"kv_tokens", i.kv_max.value()}});
  }
  return Json{{"revision", topology.revision},
              {"fence", topology.fence},
              {"layout_hash", to_hex(topology.layout_hash)},
              {"gateways", topology.gateways},
              {"instances", std::move(instances)}}
      .dump();
}

Result<Topology> parse_topology(std::string_view text) {
  const Json json = parse_quietly(text);
  JsonFields in(json);
  Topology out;
  out.revision = in.natural<std::uint64_t>("revision");
  out.fence = in.natural<std::uint64_t>("fence");
  out.layout_hash = in.hex("layout_hash");
  out.gateways = in.natural<int>("gateways");
  for (const Json& item : in.list("instances", kInstancesMax)) {
    JsonFields fields(item);
    out.instances.push_back(parse_instance(fields));
    in.adopt(fields);
  }
  return in.finish(std::move(out), "topology");
}

}  // namespace pd::protocol
