#include "protocol/access_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "protocol/toml_fields.h"

namespace pd::protocol {
namespace {

constexpr std::int64_t kPerMinuteMax = 1'000'000'000'000;

class Reader {
 public:
  explicit Reader(std::string_view name) : name_(name) {}

  void read(const toml::table& file) {
    for (const auto& [key, node] : file) {
      if (key.str() != "tenant" && key.str() != "key") {
        note(node,
             fmt::format("{}: unknown; {}", key.str(), nearest(key.str(), {"tenant", "key"})));
        continue;
      }
      const bool tenants = key.str() == "tenant";
      const toml::array* entries = node.as_array();
      if (entries == nullptr || !entries->is_array_of_tables()) {
        note(node,
             fmt::format("{}: must be entries, each begun with [[{}]]", key.str(), key.str()));
        continue;
      }
      for (const toml::node& entry : *entries) {
        if (tenants)
          read_tenant(*entry.as_table());
        else
          read_key(*entry.as_table());
      }
    }
    check_tenants_of_keys();
    if (out_.keys.empty() && mistakes_.empty())
      mistakes_.push_back(
          fmt::format("{}: no [[key]]: nobody could use the API; add one, or leave "
                      "[gateway] access_file out to ask for none",
                      name_));
  }

  std::expected<AccessFile, std::vector<std::string>> take() {
    if (!mistakes_.empty()) return std::unexpected(std::move(mistakes_));
    return std::move(out_);
  }

 private:
  void note(const toml::node& node, const std::string& what) {
    mistakes_.push_back(fmt::format("{}:{}: {}", name_, node.source().begin.line, what));
  }

  void read_tenant(const toml::table& table) {
    TenantEntry entry;
    read_table({text_field("name", entry.name), real_field("weight", entry.weight, 0.001, 1000),
                text_field("scenario", entry.scenario),
                integer_field("requests_per_minute", entry.requests_per_minute, 0, kPerMinuteMax),
                integer_field("tokens_per_minute", entry.tokens_per_minute, 0, kPerMinuteMax),
                integer_field("concurrency", entry.concurrency, 0, 1'000'000)},
               table, "[[tenant]]", name_, mistakes_);
    if (entry.name.empty()) return note(table, "[[tenant]] name: missing");
    if (!tenant_names_.insert(entry.name).second)
      return note(table, fmt::format("[[tenant]] name: \"{}\" is there twice", entry.name));
    out_.tenants.push_back(std::move(entry));
  }

  void read_key(const toml::table& table) {
    KeyEntry entry;
    read_table(
        {text_field("name", entry.name), text_field("tenant", entry.tenant),
         text_field("sha256", entry.sha256), integer_field("priority", entry.priority, -10, 10)},
        table, "[[key]]", name_, mistakes_);
    if (entry.name.empty()) return note(table, "[[key]] name: missing");
    std::ranges::transform(entry.sha256, entry.sha256.begin(), [](char c) {
      return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    if (entry.sha256.size() != 64 ||
        entry.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
      return note(table, fmt::format("[[key]] sha256 of \"{}\": must be 64 hex digits: printf '%s' "
                                     "\"$KEY\" | sha256sum | cut -d' ' -f1",
                                     entry.name));
    if (key_lines_.contains(entry.name))
      return note(table, fmt::format("[[key]] name: \"{}\" is there twice", entry.name));
    const auto [same, is_new] = names_of_keys_.try_emplace(entry.sha256, entry.name);
    if (!is_new)
      return note(table, fmt::format("[[key]] sha256 of \"{}\": \"{}\" has the same key",
                                     entry.name, same->second));
    key_lines_.emplace(entry.name, table.source().begin.line);
    out_.keys.push_back(std::move(entry));
  }

  void check_tenants_of_keys() {
    std::vector<std::string_view> known;
    for (const TenantEntry& tenant : out_.tenants) known.push_back(tenant.name);
    for (const KeyEntry& key : out_.keys) {
      if (tenant_names_.contains(key.tenant)) continue;
      mistakes_.push_back(fmt::format(
          "{}:{}: [[key]] tenant of \"{}\": there is no [[tenant]] "
          "named \"{}\"; {}",
          name_, key_lines_.at(key.name), key.name, key.tenant, nearest(key.tenant, known)));
    }
  }

  std::string_view name_;
  AccessFile out_;
  std::unordered_set<std::string> tenant_names_;
  std::unordered_map<std::string, std::uint32_t> key_lines_;    // by name
  std::unordered_map<std::string, std::string> names_of_keys_;  // by digest
  std::vector<std::string> mistakes_;
};

}  // namespace

std::expected<AccessFile, std::vector<std::string>> parse_access_file(std::string_view text,
                                                                      std::string_view name) {
  const auto parsed = parse_toml(text, name);
  if (!parsed) return std::unexpected(std::vector<std::string>{parsed.error()});
  Reader reader(name);
  reader.read(*parsed);
  return reader.take();
}

}  // namespace pd::protocol
