#include "cli/server_flags.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/mapped_file.h"

namespace pd::cli {
namespace {

constexpr std::size_t kFileMax = 4 << 20;

// "localhost" and "localhost:8000" as well as whole URLs.
std::string with_port(const std::string& url) {
  if (url.find("://") != std::string::npos) return url;
  const std::size_t end = std::min(url.find('/'), url.size());
  const std::string host = url.substr(0, end);
  const bool has_port = host.rfind(':') != std::string::npos && !host.ends_with(']');
  return has_port ? url : host + ":8000" + url.substr(end);
}

// What to try when nothing has answered.
std::string hint_for(const Error& failure) {
  const std::string_view message = failure.message;
  if (message.find("certificate refused") != message.npos)
    return "; --cacert FILE trusts its authority, --insecure asks for none";
  if (message.find("no TLS with") != message.npos) return "; does it speak http:// only?";
  return "; is the server running? (pdserve up)";
}

Result<std::string> first_line(const std::string& path) {
  auto text = read_file(path, kFileMax);
  if (text) text->resize(std::min(text->find_first_of("\r\n"), text->size()));
  return text;
}

}  // namespace

net::HttpCall Server::call(std::string method, const std::string& path, std::string body) const {
  net::HttpCall out;
  out.address = address;
  out.method = std::move(method);
  out.target = base + path;
  if (!body.empty()) out.headers.emplace_back("content-type", "application/json");
  if (!key.empty()) out.headers.emplace_back("authorization", "Bearer " + key);
  out.body = std::move(body);
  return out;
}

void ServerFlags::add_to(CLI::App& app) {
  app.add_option("server", url,
                 "its address: HOST:PORT, http://HOST:PORT or https://HOST[:PORT][/v1] (default "
                 "127.0.0.1:8000)")
      ->type_name("URL");
  CLI::Option* by_value = app.add_option("--key", key, "API key; other users see it in ps");
  app.add_option("--key-file", key_file, "file with the API key")
      ->type_name("FILE")
      ->excludes(by_value);
  CLI::Option* trusted =
      app.add_option("--cacert", authorities,
                     "certificates (PEM) to trust for https instead of the system's authorities")
          ->type_name("FILE");
  app.add_flag("--insecure", unchecked, "https without a check of the server's certificate")
      ->excludes(trusted);
}

Result<Server> ServerFlags::resolve() const {
  auto parsed = net::parse_url(with_port(url));
  if (!parsed) return std::unexpected(parsed.error());
  Server out;
  out.address = std::move(parsed->address);
  out.base = parsed->path.empty() ? "/v1" : std::move(parsed->path);
  out.key = key;
  if (!key_file.empty()) {
    auto line = first_line(key_file);
    if (!line) return std::unexpected(line.error());
    out.key = std::move(*line);
  }
  if (!out.address.tls) return out;
  Result<std::shared_ptr<const net::TlsClientContext>> tls;
  if (unchecked) {
    tls = net::TlsClientContext::unchecked();
  } else if (authorities.empty()) {
    tls = net::TlsClientContext::create();
  } else {
    const auto pem = read_file(authorities, kFileMax);
    if (!pem) return std::unexpected(pem.error());
    tls = net::TlsClientContext::trusting(*pem);
    if (!tls)
      return error(tls.error().code, fmt::format("{}: {}", authorities, tls.error().message));
  }
  if (!tls) return std::unexpected(tls.error());
  out.tls = std::move(*tls);
  return out;
}

std::string refusal_message(std::string_view body, int status) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_object() &&
      json["error"].contains("message") && json["error"]["message"].is_string()) {
    return fmt::format("HTTP {}: {}{}", status, json["error"]["message"].get<std::string>(),
                       status == 401 ? " (--key-file FILE)" : "");
  }
  return fmt::format("HTTP {}: {}", status, body.substr(0, 300));
}

Result<std::string> first_model(const Server& server, Duration patience) {
  auto answer =
      net::fetch_blocking(server.call("GET", "/models"), server.client_options(), patience);
  if (!answer && answer.error().code == ErrorCode::kDeadlineExceeded)
    return error(answer.error().code,
                 fmt::format("GET {}/models: {}", server.base, answer.error().message));
  if (!answer) return error(answer.error().code, answer.error().message + hint_for(answer.error()));
  const auto json = nlohmann::json::parse(answer->body, nullptr, false);
  if (answer->status != 200 || !json.is_object() || !json.contains("data") ||
      !json["data"].is_array() || json["data"].empty() || !json["data"][0].is_object() ||
      !json["data"][0].contains("id") || !json["data"][0]["id"].is_string()) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}/models answers {}", server.base,
                             refusal_message(answer->body, answer->status)));
  }
  return json["data"][0]["id"].get<std::string>();
}

}  // namespace pd::cli
