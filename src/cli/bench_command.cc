#include "cli/bench_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/unique_fd.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/settings.h"
#include "load/comparison.h"
#include "load/extra_fields.h"
#include "load/report_page.h"
#include "load/summary.h"

namespace pd::cli {
namespace {

constexpr std::size_t kSummaryBytesMax = 256 << 20;

Status write_file(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content << std::flush;
  if (file) return {};
  return error(ErrorCode::kUnavailable,
               fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

// Whether results can be written there, without a trace of the question: until there are new ones
// the file keeps what an earlier load has left in it.
Status check_writable(const std::string& path) {
  const auto opened = [&path](int flags) {
    return UniqueFd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666));
  };
  if (opened(0)) return {};
  if (errno == ENOENT && opened(O_CREAT | O_EXCL)) {
    ::unlink(path.c_str());
    return {};
  }
  return error(ErrorCode::kUnavailable,
               fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

// A closed loop that cannot have its requests under way would measure another load.
Status check_descriptors(int at_once) {
  constexpr rlim_t kOthers = 32;  // terminal, event loop, results
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  if (static_cast<rlim_t>(at_once) + kOthers <= limit.rlim_cur) return {};
  return error(ErrorCode::kInvalidArgument,
               fmt::format("--concurrency: {} connections and the limit of {} descriptors (ulimit "
                           "-n): at most {}",
                           at_once, limit.rlim_cur,
                           limit.rlim_cur > kOthers ? limit.rlim_cur - kOthers : 0));
}

class BenchRun {
 public:
  BenchRun(const BenchServeFlags& flags, LoadPlan plan, const Server& server, load::Target target)
      : flags_(flags),
        plan_(std::move(plan)),
        client_(loop_, client_options(server)),
        generator_(loop_, client_, std::move(target), plan_.workload, plan_.options,
                   [this] { loop_.stop(); }),
        terminal_(::isatty(2) == 1) {}

  int run() {
    loop_.on_signals({SIGINT, SIGTERM}, [this](int) {
      if (!flags_.quiet)
        note(
            "\nStopping: what is under way counts as offered, and as missed where a limit has "
            "passed.\n");
      generator_.stop();
    });
    generator_.start();
    show_progress();
    loop_.run();
    if (terminal_ && !flags_.quiet) note("\r\033[K");
    const auto records = generator_.take_records();
    if (plan_.options.length && flags_.requests == 0 && generator_.ran_out()) {
      std::string& remark = plan_.setting["remark"];
      remark +=
          (remark.empty() ? "" : "; ") +
          fmt::format("the recording's {} requests ended before --seconds did", records.size());
    }
    const auto summary = load::summarize(records, plan_.slo, plan_.setting, generator_.sending_s());
    tell("{}", load::to_table(summary));
    if (Status written = write_results(records, summary); !written) return fail(written.error());
    if (!generator_.own_trouble().empty()) {
      return fail(
          fmt::format("the load was stopped: {} (ulimit -n); this client's own lack, which "
                      "says nothing of the server",
                      generator_.own_trouble()));
    }
    if (summary.completed > 0) return 0;
    const std::string why = summary.first_error.empty() ? "" : ": " + summary.first_error;
    return fail("no request completed" + why);
  }

 private:
  static net::HttpClientOptions client_options(const Server& server) {
    net::HttpClientOptions out = server.client_options();
    out.idle_per_address_max = 100'000;  // a load of thousands keeps its connections
    return out;
  }

  void show_progress() {
    if (flags_.quiet) return;
    const auto every = std::chrono::seconds(terminal_ ? 1 : 10);
    loop_.call_at(loop_.now() + every, [this] {
      const load::Progress now = generator_.progress();
      const double span = std::max(now.elapsed_s - last_.elapsed_s, 1e-3);
      const std::string line = fmt::format(
          "{:5.0f} s  {} sent, {} under way, {} completed ({:.1f}/s), {} rejected, {} failed, "
          "{:.0f} pieces of text/s",
          now.elapsed_s, now.sent, now.under_way, now.completed,
          static_cast<double>(now.completed - last_.completed) / span, now.rejected, now.failed,
          static_cast<double>(now.pieces - last_.pieces) / span);
      note("{}{}{}", terminal_ ? "\r\033[K" : "", line, terminal_ ? "" : "\n");
      last_ = now;
      show_progress();
    });
  }

  Status write_results(const std::vector<load::Record>& records, const load::Summary& summary) {
    if (!flags_.records_file.empty()) {
      std::string lines;
      for (const load::Record& record : records) lines += load::to_json_line(record);
      if (Status written = write_file(flags_.records_file, lines); !written) return written;
    }
    if (!flags_.json_file.empty()) {
      if (Status written = write_file(flags_.json_file, load::to_json(summary) + "\n"); !written)
        return written;
    }
    if (flags_.html_file.empty()) return {};
    return write_file(flags_.html_file, load::report_page({{flags_.server.url, summary}}));
  }

  const BenchServeFlags& flags_;
  LoadPlan plan_;
  net::EventLoop loop_;
  net::HttpClient client_;
  load::Generator generator_;
  load::Progress last_;
  bool terminal_;
};

int run_serve(const BenchServeFlags& flags) {
  auto plan = plan_load(flags);
  if (!plan) return fail(plan.error());
  auto extra = load::parse_extra_fields(flags.extra);
  if (!extra) return fail(fmt::format("--extra: {}", extra.error().message));
  if (Status enough = check_descriptors(flags.concurrency); !enough) return fail(enough.error());
  const auto server = flags.server.resolve();
  if (!server) return fail(server.error());
  std::string model = flags.model;
  if (model.empty()) {
    auto found = first_model(*server, plan->options.patience);
    if (!found) return fail(fmt::format("{}: {}", flags.server.url, found.error().message));
    model = std::move(*found);
  }
  // Files are tried before an hour of measurement, not after it.
  for (const std::string& path : {flags.records_file, flags.json_file, flags.html_file}) {
    if (path.empty()) continue;
    if (Status writable = check_writable(path); !writable) return fail(writable.error());
  }
  const auto endpoint = find_endpoint(*server, flags, model, plan->options.patience);
  if (!endpoint) return fail(fmt::format("{}: {}", flags.server.url, endpoint.error().message));
  load::Target target;
  target.call = server->call("POST", endpoint->path(), "{}");
  target.chat = endpoint->api == "chat";
  target.model = model;
  target.streamed = !flags.whole;
  target.ignore_eos = !flags.no_ignore_eos;
  target.extra = std::move(*extra);
  target.tokens = endpoint->tokens;
  target.text_seed = plan->text_seed;
  plan->setting["server"] = flags.server.url + server->base.substr(server->base == "/v1" ? 3 : 0);
  plan->setting["model"] = model;
  plan->setting["api"] =
      endpoint->api +
      (flags.whole ? ", not streamed: TTFT is the time to the whole answer" : ", streamed");
  if (!target.extra.empty()) plan->setting["extra fields"] = target.extra;
  plan->setting["prompts"] = fmt::format(
      "{:.3g} tokens a word, {:.3g} tokens of the endpoint's own: none is shorter than "
      "{:.0f} tokens",
      endpoint->tokens.per_word, endpoint->tokens.overhead,
      endpoint->tokens.overhead + endpoint->tokens.per_word);
  return BenchRun(flags, std::move(*plan), *server, std::move(target)).run();
}

struct CompareFlags {
  std::string a, b, html_file;
};

int run_compare(const CompareFlags& flags) {
  std::vector<load::NamedSummary> both;
  for (const std::string& path : {flags.a, flags.b}) {
    const auto text = read_file(path, kSummaryBytesMax);
    if (!text) return fail(text.error());
    auto summary = load::read_summary(*text, path);
    if (!summary) return fail(summary.error());
    both.push_back({path, std::move(*summary)});
  }
  tell("{}", load::to_text(load::compare(both[0].summary, both[1].summary), flags.a, flags.b));
  if (flags.html_file.empty()) return 0;
  const Status written = write_file(flags.html_file, load::report_page(both));
  return written ? 0 : fail(written.error());
}

void add_dataset_flags(CLI::App& app, BenchServeFlags& flags) {
  app.add_option("--dataset", flags.dataset,
                 "what is asked: random, shared-prefix, multi-turn, or a recording: mooncake:FILE "
                 "(JSON lines), azure:FILE (CSV), servegen:FOLDER")
      ->capture_default_str();
  app.add_option("--input-tokens", flags.input, "of a prompt or turn: N or LOW:HIGH")
      ->capture_default_str();
  app.add_option("--output-tokens", flags.output, "of an answer: N or LOW:HIGH")
      ->capture_default_str();
  app.add_option("--prefixes", flags.prefixes, "shared-prefix: how many different ones")
      ->check(CLI::Range(1U, 1'000'000U))
      ->capture_default_str();
  app.add_option("--prefix-tokens", flags.prefix_tokens,
                 "length of a shared prefix; multi-turn: of what all conversations begin with")
      ->check(CLI::Range(0U, 10'000'000U))
      ->capture_default_str();
  app.add_option("--turns", flags.turns, "multi-turn: of a conversation")->capture_default_str();
  app.add_option("--think", flags.think, "multi-turn: pause before the next turn")
      ->capture_default_str();
  app.add_option("--trace-from", flags.trace_from, "where in the recording to begin")
      ->capture_default_str();
  app.add_option(
      "--seed", flags.seed,
      "the same seed asks the same: lengths, times and words. Default: lengths and times "
      "of seed 1, words that no earlier run has sent");
  app.add_option(
      "--text-seed", flags.text_seed,
      "of the prompts' words alone, to repeat a run without --seed: the summary names it");
}

void add_time_flags(CLI::App& app, BenchServeFlags& flags) {
  app.add_option(
      "--rate", flags.rate,
      "open loop: conversations per second, whatever the server does; FROM:TO is a ramp");
  app.add_option("--arrivals", flags.arrivals,
                 "poisson (default), even, gamma (bursts), trace (a recording's default)")
      ->check(CLI::IsMember({"poisson", "even", "gamma", "trace"}));
  app.add_option("--burstiness", flags.burstiness,
                 "gamma: coefficient of variation of the gaps, default 2; 1 is poisson")
      ->check(CLI::Range(0.01, 100.0));
  app.add_option("--speed-up", flags.speed_up, "trace: so many times as fast")
      ->check(CLI::Range(0.0001, 1e6));
  app.add_option("--concurrency", flags.concurrency, "closed loop: conversations at any time")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--requests", flags.requests,
                 "at most so many conversations; default 100, or what "
                 "--seconds or the recording has")
      ->check(CLI::Range(std::size_t{1}, std::size_t{50'000'000}));
  app.add_option("--seconds", flags.seconds, "send for so long: 30s, 10m");
  app.add_option("--timeout", flags.patience, "give a request up after this")
      ->capture_default_str();
}

CLI::App* add_serve(CLI::App& bench, const std::shared_ptr<BenchServeFlags>& flags) {
  CLI::App* app = bench.add_subcommand(
      "serve", "load on any OpenAI-compatible server: TTFT, TPOT, ITL, goodput under limits");
  app->footer(
      "Examples:\n"
      "  pdserve bench serve --rate 10 --seconds 60s --slo ttft=500ms,tpot=50ms --html "
      "report.html\n"
      "  pdserve bench serve https://host/v1 --key-file key --concurrency 32 --requests 1000\n"
      "  pdserve bench serve --dataset multi-turn --turns 3:8 --rate 2 --requests 200\n"
      "  pdserve bench serve --dataset mooncake:trace.jsonl --speed-up 2 --seconds 5m\n"
      "An open loop (--rate, a trace) counts times from when a request was due: a server that "
      "stalls\n"
      "delays those behind it in the figures too. 429 and 503 count as rejected.");
  flags->server.add_to(*app);
  app->add_option("--model", flags->model, "model to ask for; default: the server's first");
  app->add_option("--api", flags->api,
                  "endpoint: chat, completions, or auto: chat unless the server refuses it")
      ->check(CLI::IsMember({"auto", "chat", "completions"}))
      ->capture_default_str();
  app->add_flag("--whole", flags->whole, "ask for whole answers, not streams");
  app->add_flag("--no-ignore-eos", flags->no_ignore_eos,
                "leave out ignore_eos, which not every server knows; answers may then be shorter");
  app->add_option("--extra", flags->extra,
                  "further fields of the body: temperature=0 or '{\"temperature\":0}'; may be "
                  "repeated")
      ->allow_extra_args(false);
  add_dataset_flags(*app, *flags);
  add_time_flags(*app, *flags);
  app->add_option("--slo", flags->slo, "limits that count as served: ttft=500ms,tpot=50ms,e2e=10s");
  app->add_option("--tokens-per-word", flags->tokens_per_word,
                  "how the model counts the words of prompts; default: two short requests show it")
      ->check(CLI::Range(0.1, 100.0));
  app->add_option("--records", flags->records_file, "write a JSON line for each request")
      ->type_name("FILE");
  app->add_option("--json", flags->json_file, "write the summary, for bench compare")
      ->type_name("FILE");
  app->add_option("--html", flags->html_file, "write a page with plots that needs nothing else")
      ->type_name("FILE");
  app->add_flag("--quiet", flags->quiet, "no progress");
  return app;
}

}  // namespace

Command add_bench(CLI::App& root) {
  CLI::App* app = root.add_subcommand("bench", "measure an OpenAI-compatible server");
  app->require_subcommand(1);
  auto serve_flags = std::make_shared<BenchServeFlags>();
  CLI::App* serve = add_serve(*app, serve_flags);
  auto compare_flags = std::make_shared<CompareFlags>();
  CLI::App* compare = app->add_subcommand("compare", "two loads beside each other, B against A");
  compare->add_option("a", compare_flags->a, "summary written with --json")->required();
  compare->add_option("b", compare_flags->b, "another")->required();
  compare->add_option("--html", compare_flags->html_file, "write a page with both")
      ->type_name("FILE");
  return {app, [=] {
            if (!serve->parsed()) return run_compare(*compare_flags);
            for (const CLI::Option* option : serve->get_options())
              if (option->count() > 0) serve_flags->given.insert(option->get_name());
            return run_serve(*serve_flags);
          }};
}

}  // namespace pd::cli
