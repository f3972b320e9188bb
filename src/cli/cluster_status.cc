#include "cli/cluster_status.h"

#include <nlohmann/json.hpp>

namespace pd::cli {
namespace {

using nlohmann::json;

// The member if it is there and of that kind; else the other value.
std::string text(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}
bool flag(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() && it->get<bool>();
}

}  // namespace

Result<ClusterStatus> parse_cluster_status(std::string_view body) {
  const auto wrong = [] {
    return error(ErrorCode::kCorrupt, "its status is not what a controller says");
  };
  const json status = json::parse(body, nullptr, false);
  if (!status.is_object()) return wrong();
  const auto instances = status.find("instances");
  if (instances == status.end() || !instances->is_array()) return wrong();
  ClusterStatus out;
  out.complete = flag(status, "complete");
  out.last_trouble = text(status, "last_trouble");
  for (const json& entry : *instances) {
    const bool known = entry.is_object() && entry.contains("id") && entry["id"].is_number_integer();
    if (!known) return wrong();
    InstanceStatus instance{.id = entry["id"].get<int>(),
                            .role = text(entry, "role"),
                            .state = text(entry, "state"),
                            .address = text(entry, "address"),
                            .trouble = text(entry, "trouble")};
    if (const auto own = entry.find("status"); own != entry.end() && own->is_object()) {
      const auto loaded = own->find("load_fraction");
      if (loaded != own->end() && loaded->is_number()) instance.loaded = loaded->get<double>();
      if (flag(*own, "fatal")) instance.fatal = text(*own, "trouble");
    }
    out.instances.push_back(std::move(instance));
  }
  return out;
}

}  // namespace pd::cli
