// What an operator asks of a running gateway, by its admin port.
#include <fmt/format.h>

#include <cctype>
#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/settings.h"
#include "net/http_client.h"

namespace pd::cli {
namespace {

struct CtlFlags {
  std::string admin;
  std::string key_file;
  std::string id;
};

// The body of the answer, or what went wrong in one line.
Result<nlohmann::ordered_json> ask(const CtlFlags& flags, const char* method, std::string target) {
  const auto key = read_key_file(flags.key_file, "--key-file");
  if (!key) return std::unexpected(key.error());
  auto address = net::parse_address(flags.admin);
  if (!address) return error(ErrorCode::kInvalidArgument, "--admin: " + address.error().message);
  net::HttpCall call;
  call.address = std::move(*address);
  call.method = method;
  call.target = std::move(target);
  call.headers = {{"authorization", "Bearer " + *key}};
  call.read_timeout = std::chrono::seconds(5);
  const auto answer = net::fetch_blocking(std::move(call));
  if (!answer)
    return error(answer.error().code,
                 fmt::format("the gateway at {}: {}", flags.admin, answer.error().message));
  auto body = nlohmann::ordered_json::parse(answer->body, nullptr, false);
  if (answer->status < 300 && body.is_object()) return body;
  const bool said = body.is_object() && body.contains("error") && body["error"].is_object();
  const std::string why =
      said ? body["error"].value("message", "") : fmt::format("HTTP {}", answer->status);
  return error(
      ErrorCode::kInvalidArgument,
      answer->status == 401 ? "--key-file: not this gateway's key"
      : answer->status == 404 && why.starts_with("Invalid URL")
          ? fmt::format("--admin: {} is not an operators' port; [gateway] admin_port names "
                        "it, and `up` prints it",
                        flags.admin)
          : why);
}

// A client's own id may have any visible character.
std::string request_path(const std::string& id) {
  std::string path = "/admin/v1/requests/";
  for (const char c : id) {
    const auto byte = static_cast<unsigned char>(c);
    path += std::isalnum(byte) != 0 || c == '-' ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return path;
}

void print_requests(const nlohmann::ordered_json& body) {
  constexpr const char* kRow = "{:<42} {:<14} {:<13} {:>9} {:>8} {:>8} {:>4} {:>4}\n";
  tell(kRow, "id", "tenant", "stage", "ms", "prompt", "output", "P", "D");
  for (const auto& request : body["requests"]) {
    const auto instance = [&](const char* key) {
      return request.contains(key) ? std::to_string(request[key].get<std::uint64_t>()) : "-";
    };
    tell(kRow, printable(request.value("id", "")), printable(request.value("tenant", "-")),
         printable(request.value("stage", "")),
         fmt::format("{:.0f}", request.value("total_ms", 0.0)),
         std::to_string(request.value("prompt_tokens", 0)),
         std::to_string(request.value("output_tokens", 0)), instance("prefill"),
         instance("decode"));
  }
}

int requests(const CtlFlags& flags) {
  const auto body = ask(flags, "GET", "/admin/v1/requests");
  if (!body) return fail(body.error());
  print_requests(*body);
  return 0;
}

int one(const CtlFlags& flags, const char* method) {
  const auto body = ask(flags, method, request_path(flags.id));
  if (!body) return fail(body.error());
  tell("{}\n", printable(body->dump(2), "\n"));
  return 0;
}

int plain(const CtlFlags& flags, const char* method, const char* path) {
  const auto body = ask(flags, method, path);
  if (!body) return fail(body.error());
  tell("{}\n", printable(body->dump(2), "\n"));
  return 0;
}

}  // namespace

Command add_ctl(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "ctl", "an operator's view of a running gateway: requests, tenants, cancel, drain");
  auto flags = std::make_shared<CtlFlags>();
  app->add_option("--admin", flags->admin, "the gateway's admin port; `up` prints it")
      ->type_name("HOST:PORT")
      ->required();
  app->add_option(
         "--key-file", flags->key_file,
         "file with the operator's key ([gateway] admin_key_file, or the cluster's secret)")
      ->type_name("FILE")
      ->required();
  app->require_subcommand(1);
  auto run = std::make_shared<std::function<int()>>();
  const auto add = [&](const char* name, const char* what, std::function<int()> work) {
    CLI::App* sub = app->add_subcommand(name, what);
    sub->callback([run, work = std::move(work)] { *run = work; });
    return sub;
  };
  add("requests", "every request that is being served", [flags] { return requests(*flags); });
  CLI::App* where = add("where", "one request: where it is, and where its time went",
                        [flags] { return one(*flags, "GET"); });
  where->add_option("ID", flags->id, "the id in its answer, or the X-Request-Id it was sent with")
      ->required();
  CLI::App* cancel = add("cancel", "ends a request; its client is told so",
                         [flags] { return one(*flags, "DELETE"); });
  cancel->add_option("ID", flags->id, "the id in its answer, or the X-Request-Id it was sent with")
      ->required();
  add("tenants", "limits, and what is left of them",
      [flags] { return plain(*flags, "GET", "/admin/v1/tenants"); });
  add("drain", "no new requests; the gateway ends when the last one has",
      [flags] { return plain(*flags, "POST", "/admin/v1/drain"); });
  return {app, [run] { return (*run)(); }};
}

}  // namespace pd::cli
