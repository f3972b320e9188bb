#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/files.h"
#include "cli/http_stream.h"
#include "cli/local_cluster.h"
#include "cli/settings.h"
#include "model/model.h"

namespace pd::cli {
namespace {

struct UpFlags {
  CommonFlags common;
  std::optional<int> prefill, decode, both;
  std::optional<std::string> host;
  std::optional<int> port;
  bool no_question = false;
  std::string state_file;
};

constexpr Duration kStatusEvery = std::chrono::milliseconds(50);  // while it starts
constexpr Duration kWatchEvery = std::chrono::seconds(1);         // while it serves
// A gateway that ends again this soon would do so for ever.
constexpr Duration kGatewayLifeMin = std::chrono::seconds(5);
constexpr int kBarWidth = 30;

std::optional<protocol::Config> effective_config(const UpFlags& flags) {
  auto config = load_config(flags.common);
  if (!config) return std::nullopt;
  if (flags.both) {
    config->group.both = *flags.both;
    config->group.prefill = config->group.decode = 0;
  }
  if (flags.prefill) config->group.prefill = *flags.prefill;
  if (flags.decode) config->group.decode = *flags.decode;
  if (flags.host) config->gateway.host = *flags.host;
  if (flags.port) config->gateway.port = static_cast<std::uint16_t>(*flags.port);
  const auto path = find_model(config->model.path);
  if (!path) {
    fail(path.error());
    return std::nullopt;
  }
  config->model.path = path->string();
  const auto mistakes = protocol::validate(*config, "flags");
  for (const std::string& mistake : mistakes) fail(mistake);
  return mistakes.empty() ? config : std::nullopt;
}

// "[##########          ] 1 of 4 serving; worker 3: loading weights 42 %"
std::string progress_line(const ClusterStatus& status, int wanted) {
  int serving = 0;
  double fraction = 0;
  std::string detail;
  for (const InstanceStatus& instance : status.instances) {
    serving += instance.serves();
    fraction += instance.serves() ? 1.0 : 0.9 * std::clamp(instance.loaded, 0.0, 1.0);
    if (instance.serves() || !detail.empty()) continue;
    detail = fmt::format("; instance {} ({}): {}", instance.id, instance.role, instance.state);
    if (instance.loaded > 0 && instance.loaded < 1)
      detail += fmt::format(" weights {:.0f} %", 100 * instance.loaded);
  }
  const int full = static_cast<int>(kBarWidth * std::min(1.0, fraction / wanted));
  return fmt::format("[{}{}] {} of {} serving{}", std::string(static_cast<std::size_t>(full), '#'),
                     std::string(static_cast<std::size_t>(kBarWidth - full), ' '), serving, wanted,
                     detail);
}

// A fatal trouble that an instance reported, empty when there is none.
std::string fatal_trouble(const ClusterStatus& status) {
  for (const InstanceStatus& instance : status.instances) {
    if (!instance.fatal.empty()) return instance.fatal;
  }
  return status.last_trouble;
}

class UpRun {
 public:
  UpRun(const UpFlags& flags, protocol::Config config)
      : flags_(flags), config_(std::move(config)), terminal_(::isatty(2) == 1) {}

  int run() {
    auto model = model::Model::open(config_.model.path);
    if (!model) return fail(model.error());
    has_template_ = model->chat_template.has_value();
    name_ = model_name(config_, *model);
    if (!model->chat_template_error.empty())
      note("note: the chat template is not supported: {}\n", model->chat_template_error);
    if (auto fits = check_memory(config_, *model); !fits) return fail(fits.error());
    auto cluster = LocalCluster::create(loop_, config_);
    if (!cluster) return fail(cluster.error());
    cluster_ = std::move(*cluster);
    note("{}: {} prefill, {} decode{}; logs in {}\n", name_, config_.group.prefill,
         config_.group.decode,
         config_.group.both > 0 ? fmt::format(", {} aggregated", config_.group.both) : "",
         cluster_->directory().string());
    if (!config_.gateway.handover_socket.empty())
      note("note: [gateway] handover_socket is not used: up replaces its gateway itself\n");
    cluster_->on_child_end([this](const std::string& who, const std::string& how, bool cleanly) {
      on_child_end(who, how, cleanly);
    });
    if (auto started = cluster_->start(); !started) return fail(started.error());
    loop_.on_signals({SIGINT, SIGTERM}, [this](int) { stop(); });
    ask_status();
    loop_.run();
    return exit_status_;
  }

 private:
  void ask_status() {
    cluster_->fetch_status([this](const Result<ClusterStatus>& status) {
      if (stopping_) return;
      if (status)
        on_status(*status);
      else
        loop_.call_at(loop_.now() + kStatusEvery, [this] { ask_status(); });
    });
  }

  void on_status(const ClusterStatus& status) {
    if (complete_) {
      tell_changes(status);
      loop_.call_at(loop_.now() + kWatchEvery, [this] { ask_status(); });
      return;
    }
    const int wanted = config_.group.prefill + config_.group.decode + config_.group.both;
    const std::string line = progress_line(status, wanted);
    if (terminal_)
      note("\r\x1b[K{}", line);
    else if (line != last_line_)
      note("{}\n", line);
    last_line_ = line;
    if (const std::string trouble = fatal_trouble(status); !trouble.empty()) {
      if (terminal_) note("\n");
      exit_status_ = fail(trouble);
      return stop();
    }
    if (!status.complete) {
      loop_.call_at(loop_.now() + kStatusEvery, [this] { ask_status(); });
      return;
    }
    if (terminal_) note("\n");
    complete_ = true;
    serving_ = serving(status);
    on_complete();
    loop_.call_at(loop_.now() + kWatchEvery, [this] { ask_status(); });
  }

  static std::map<int, std::string> serving(const ClusterStatus& status) {
    std::map<int, std::string> out;
    for (const InstanceStatus& instance : status.instances) {
      if (instance.serves()) out[instance.id] = instance.role;
    }
    return out;
  }

  // What happened to instances since the last look, a line each.
  void tell_changes(const ClusterStatus& status) {
    const std::map<int, std::string> now = serving(status);
    for (const auto& [id, role] : serving_) {
      if (!now.contains(id))
        note("Instance {} ({}) is gone; its requests go on elsewhere, a substitute starts.\n", id,
             role);
    }
    for (const auto& [id, role] : now) {
      if (!serving_.contains(id)) note("Instance {} ({}) serves.\n", id, role);
    }
    serving_ = now;
  }

  void on_complete() {
    // What this machine reaches it by, when it listens on every address.
    std::string host = config_.gateway.host;
    if (host == "0.0.0.0") host = "127.0.0.1";
    if (host == "::" || host == "[::]") host = "::1";
    const bool bare_ipv6 = host.find(':') != std::string::npos && !host.starts_with('[');
    const std::string url =
        fmt::format("{}://{}:{}", config_.gateway.tls_certificate.empty() ? "http" : "https",
                    bare_ipv6 ? "[" + host + "]" : host, cluster_->gateway_port());
    if (!flags_.no_question) ask_question(host);
    url_ = url;
    if (!write_state()) return;
    teach(url);
  }

  const std::string& admin_key_file() const {
    const protocol::Config& config = cluster_->config();
    return config.gateway.admin_key_file.empty() ? config.cluster.secret_file
                                                 : config.gateway.admin_key_file;
  }

  std::string admin_address() const {
    return fmt::format("{}:{}", cluster_->config().gateway.admin_host, cluster_->admin_port());
  }

  // False: it could not be written, and the cluster ends.
  bool write_state() {
    if (!flags_.state_file.empty()) {
      const nlohmann::json state{
          {"gateway", url_},
          {"controller", fmt::format("{}:{}", config_.worker.host, cluster_->controller_port())},
          {"admin", admin_address()},
          {"directory", cluster_->directory().string()},
          {"model", name_},
          {"pids",
           {{"gateway", cluster_->gateway_pid()}, {"controller", cluster_->controller_pid()}}}};
      if (auto written = write_private_file(flags_.state_file, state.dump()); !written) {
        exit_status_ = fail(written.error());
        stop();
        return false;
      }
    }
    return true;
  }

  // One real request through the front door, streamed to the terminal.
  void ask_question(const std::string& host) {
    nlohmann::json body{{"model", name_}, {"stream", true}, {"temperature", 0}, {"max_tokens", 64}};
    const std::string question =
        has_template_ ? "What is the capital of France?" : "Once upon a time";
    if (has_template_)
      body["messages"] = {{{"role", "user"}, {"content", question}}};
    else
      body["prompt"] = question;
    Server server{{host, cluster_->gateway_port(), !config_.gateway.tls_certificate.empty()},
                  "/v1",
                  cluster_->secret(),
                  nullptr};
    // It is the process that we have just started.
    if (server.address.tls) server.tls = net::TlsClientContext::unchecked().value_or(nullptr);
    tell("\n> {}\n", question);
    const auto answer = stream_answer(server, has_template_ ? "/chat/completions" : "/completions",
                                      body.dump(), [](std::string_view text) { tell("{}", text); });
    tell("\n\n");
    if (!answer) fail("the first question failed: " + answer.error().message);
  }

  void teach(const std::string& url) const {
    const std::string path = has_template_ ? "chat/completions" : "completions";
    const std::string input = has_template_ ? R"("messages":[{"role":"user","content":"Hello"}])"
                                            : R"("prompt":"Once upon a time")";
    const std::string python =
        has_template_
            ? R"(client.chat.completions.create(model="{}", messages=[{{"role": "user", "content": "Hello"}}]))"
            : R"(client.completions.create(model="{}", prompt="Once upon a time"))";
    const auto& gateway = config_.gateway;
    const bool keys = !gateway.access_file.empty();
    std::string remarks;
    if (keys)
      remarks += fmt::format("YOUR_KEY: a key whose sha256 is in {}.\n", gateway.access_file);
    if (!gateway.tls_certificate.empty())
      remarks += fmt::format(
          "If this machine does not trust the certificate: curl --cacert {0}, SSL_CERT_FILE={0} "
          "for "
          "Python.\n",
          gateway.tls_certificate);
    tell(
        "Serving {} at {}/v1  (metrics: {}/metrics)\n\n"
        "  curl {}/v1/{} -H 'content-type: application/json'{} \\\n"
        "       -d '{{\"model\":\"{}\",{},\"max_tokens\":64,\"stream\":true}}'\n\n"
        "  from openai import OpenAI\n"
        "  client = OpenAI(base_url=\"{}/v1\", api_key=\"{}\")\n"
        "  print({})\n\n"
        "  {} ctl --admin {} --key-file {} requests\n\n"
        "{}Ctrl-C ends it.\n",
        name_, url, url, url, path, keys ? " -H 'authorization: Bearer YOUR_KEY'" : "", name_,
        input, url, keys ? "YOUR_KEY" : "none", fmt::format(fmt::runtime(python), name_),
        program_path().string(), admin_address(), admin_key_file(), remarks);
  }

  void on_child_end(const std::string& who, const std::string& how, bool cleanly) {
    if (who == "controller" && complete_) {
      note(
          "The controller ended ({}). Serving goes on, but nothing is replaced any more; restart "
          "with Ctrl-C and up.\n",
          how);
      return;
    }
    if (who == "gateway" && cleanly && complete_) {
      note("The gateway was drained: the cluster ends.\n");
      return stop();
    }
    if (who == "gateway" && complete_ && loop_.now() - gateway_started_ >= kGatewayLifeMin) {
      gateway_started_ = loop_.now();
      if (const auto again = cluster_->restart_gateway(); again) {
        note(
            "The gateway ended ({}); a new one serves at {}, its operators' port is {}. The "
            "requests of the old one were lost.\n",
            how, url_, admin_address());
        write_state();
        return;
      }
    }
    exit_status_ = fail(fmt::format("the {} ended: {}", who, how));
    cluster_->keep_directory();
    note("The logs are kept in {}\n", cluster_->directory().string());
    stop();
  }

  void stop() {
    if (std::exchange(stopping_, true)) {
      cluster_->kill();  // asked twice
      return;
    }
    note("Stopping; answers under way have 10 s, a second Ctrl-C ends them at once.\n");
    cluster_->stop([this] { loop_.stop(); });
  }

  const UpFlags& flags_;
  protocol::Config config_;
  net::EventLoop loop_;
  std::unique_ptr<LocalCluster> cluster_;
  std::string name_;
  std::string last_line_;
  std::string url_;
  std::map<int, std::string> serving_;  // id -> role, as of the last look
  Time gateway_started_{};
  bool complete_ = false;
  bool has_template_ = false;
  bool terminal_;
  bool stopping_ = false;
  int exit_status_ = 0;
};

int run(const UpFlags& flags) {
  auto config = effective_config(flags);
  if (!config) return 1;
  return UpRun(flags, std::move(*config)).run();
}

}  // namespace

Command add_up(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "up", "a whole cluster on this machine: gateway, controller, prefill and decode instances");
  auto flags = std::make_shared<UpFlags>();
  flags->common.add_to(*app);
  app->add_option("--prefill", flags->prefill, "prefill instances (default 2)")
      ->check(CLI::Range(0, 1024));
  app->add_option("--decode", flags->decode, "decode instances (default 2)")
      ->check(CLI::Range(0, 1024));
  app->add_option("--both", flags->both,
                  "aggregated instances; with --prefill beside those, else alone")
      ->check(CLI::Range(1, 1024));
  app->add_option("--host", flags->host, "address of the API (default 127.0.0.1)");
  app->add_option("--port", flags->port, "port of the API (default 8000; 0: the system chooses)")
      ->check(CLI::Range(0, 65535));
  app->add_flag("--no-question", flags->no_question,
                "do not ask the model a question when it is ready");
  app->add_option(
         "--state", flags->state_file,
         "file that is written when the cluster is ready (JSON: addresses and process ids)")
      ->type_name("FILE");
  return {app, [flags] { return run(*flags); }};
}

}  // namespace pd::cli
