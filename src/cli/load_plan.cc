// From the flags of `bench serve` to a workload and its times.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <random>

#include "base/mapped_file.h"
#include "cli/bench_command.h"
#include "load/arrivals.h"
#include "protocol/config.h"

namespace pd::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTraceBytesMax = std::size_t{4} << 30;
constexpr std::size_t kRequestsDefault = 100;
constexpr std::size_t kRequestsMax = 50'000'000;
constexpr std::uint64_t kSeedDefault = 1;

// The kinds of datasets.
const std::vector<std::string_view> kMade = {"random", "shared-prefix", "multi-turn"};
const std::vector<std::string_view> kRecorded = {"mooncake", "azure", "servegen"};

std::unexpected<Error> wrong(std::string_view flag, std::string_view what) {
  return error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", flag, what));
}

// "mooncake:FILE" in two.
std::pair<std::string, std::string> kind_and_path(const std::string& dataset) {
  const std::size_t colon = dataset.find(':');
  if (colon == std::string::npos) return {dataset, ""};
  return {dataset.substr(0, colon), dataset.substr(colon + 1)};
}

Result<Duration> time_flag(std::string_view flag, const std::string& text) {
  const auto parsed = protocol::parse_duration(text);
  if (parsed) return *parsed;
  return wrong(flag, fmt::format("'{}' is not a time: write 500ms, 30s or 10m", text));
}

Result<load::Lengths> lengths_flag(std::string_view flag, const std::string& text) {
  auto parsed = load::parse_lengths(text);
  if (!parsed) return wrong(flag, parsed.error().message);
  return parsed;
}

Result<std::vector<load::ServeGenClient>> read_servegen_folder(const fs::path& folder) {
  std::vector<load::ServeGenClient> out;
  std::error_code code;
  std::vector<fs::path> traces;
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    if (entry.path().filename().string().ends_with("-trace.csv")) traces.push_back(entry.path());
  }
  if (traces.empty())
    return wrong("--dataset", fmt::format("{} has no chunk-N-trace.csv", folder.string()));
  std::ranges::sort(traces);
  for (const fs::path& path : traces) {
    const std::string name = path.filename().string();
    auto trace = read_file(path, kTraceBytesMax);
    if (!trace) return std::unexpected(trace.error());
    load::ServeGenClient client{path.string(), std::move(*trace), ""};
    const fs::path lengths =
        folder /
        (name.substr(0, name.size() - std::string_view("trace.csv").size()) + "dataset.json");
    if (fs::exists(lengths, code)) {
      auto text = read_file(lengths, kTraceBytesMax);
      if (!text) return std::unexpected(text.error());
      client.dataset_json = std::move(*text);
    }
    out.push_back(std::move(client));
  }
  return out;
}

class Planner {
 public:
  explicit Planner(const BenchServeFlags& flags)
      : flags_(flags), rng_(flags.seed.value_or(kSeedDefault)) {}

  Result<LoadPlan> plan() {
    if (Status read = read_flags(); !read) return std::unexpected(read.error());
    if (Status times = choose_times(); !times) return std::unexpected(times.error());
    if (Status made = make_workload(); !made) return std::unexpected(made.error());
    if (Status set = set_times(); !set) return std::unexpected(set.error());
    out_.text_seed = flags_.text_seed.value_or(flags_.seed ? *flags_.seed : std::random_device{}());
    describe();
    return std::move(out_);
  }

 private:
  Status read_flags() {
    std::tie(kind_, path_) = kind_and_path(flags_.dataset);
    const auto input = lengths_flag("--input-tokens", flags_.input);
    const auto output = lengths_flag("--output-tokens", flags_.output);
    const auto turns = lengths_flag("--turns", flags_.turns);
    for (const auto* lengths : {&input, &output, &turns})
      if (!*lengths) return std::unexpected(lengths->error());
    input_ = *input, output_ = *output, turns_ = *turns;
    const auto think = time_flag("--think", flags_.think);
    const auto from = time_flag("--trace-from", flags_.trace_from);
    const auto patience = time_flag("--timeout", flags_.patience);
    for (const auto* time : {&think, &from, &patience})
      if (!*time) return std::unexpected(time->error());
    out_.options.think = *think;
    out_.options.patience = *patience;
    trace_from_ = *from;
    if (!flags_.seconds.empty()) {
      const auto length = time_flag("--seconds", flags_.seconds);
      if (!length) return std::unexpected(length.error());
      length_ = *length;
    }
    auto slo = load::parse_slo(flags_.slo);
    if (!slo) return wrong("--slo", slo.error().message);
    out_.slo = *slo;
    if (flags_.whole && slo->tpot_ms)
      return wrong("--slo", "tpot: an answer that comes --whole shows no time for each token");
    recorded_ = std::ranges::find(kRecorded, kind_) != kRecorded.end();
    if (Status meant = check_dataset_flags(); !meant) return meant;
    if (!recorded_ && !path_.empty())
      return wrong("--dataset", fmt::format("'{}': only mooncake, azure and servegen are of a file",
                                            flags_.dataset));
    if (recorded_ && path_.empty())
      return wrong("--dataset", fmt::format("{} needs its file: {}:PATH", kind_, kind_));
    return {};
  }

  // Nobody may believe to have measured what a flag says that the dataset does not heed.
  Status check_dataset_flags() const {
    struct Heeded {
      const char* flag;
      std::vector<std::string_view> by;
    };
    static const std::vector<Heeded> flags = {
        {"--input-tokens", kMade},         {"--output-tokens", kMade},
        {"--prefixes", {"shared-prefix"}}, {"--prefix-tokens", {"shared-prefix", "multi-turn"}},
        {"--turns", {"multi-turn"}},       {"--think", {"multi-turn"}},
        {"--trace-from", kRecorded},
    };
    if (!recorded_ && std::ranges::find(kMade, kind_) == kMade.end()) return {};  // told later
    for (const auto& [flag, by] : flags) {
      if (flags_.given.contains(flag) && std::ranges::find(by, kind_) == by.end())
        return wrong(
            flag, fmt::format("is not for --dataset {}, but for {}", kind_, fmt::join(by, ", ")));
    }
    return {};
  }

  // Open or closed loop, and at which rate.
  Status choose_times() {
    const bool closed = flags_.concurrency > 0;
    if (closed && (!flags_.rate.empty() || !flags_.arrivals.empty() || flags_.burstiness > 0))
      return wrong("--concurrency", "a closed loop has no --rate, --arrivals or --burstiness");
    by_trace_ = recorded_ && !closed && flags_.rate.empty() &&
                (flags_.arrivals.empty() || flags_.arrivals == "trace");
    if (flags_.arrivals == "trace" && !recorded_)
      return wrong("--arrivals", fmt::format("a dataset '{}' has no times of its own", kind_));
    if (flags_.arrivals == "trace" && !flags_.rate.empty())
      return wrong("--rate", "the times are the trace's; --speed-up makes them shorter");
    if (flags_.speed_up != 1 && !by_trace_)
      return wrong("--speed-up", "is for the times of a trace");
    if (closed || by_trace_) return {};
    if (flags_.rate.empty())
      return wrong("--rate", "say how fast: --rate 10, or --concurrency 8 for a closed loop");
    auto rate = load::parse_rate(flags_.rate);
    if (!rate) return wrong("--rate", rate.error().message);
    open_ = *rate;
    const std::string law =
        flags_.arrivals.empty() ? (flags_.burstiness > 0 ? "gamma" : "poisson") : flags_.arrivals;
    open_->law = law == "even"    ? load::OpenArrivals::Law::kEven
                 : law == "gamma" ? load::OpenArrivals::Law::kGamma
                                  : load::OpenArrivals::Law::kPoisson;
    if (flags_.burstiness > 0 && law != "gamma")
      return wrong("--burstiness", "is for --arrivals gamma");
    open_->burstiness = flags_.burstiness > 0 ? flags_.burstiness : 2;
    if (open_->end_rate && !length_) return wrong("--rate", "a ramp needs --seconds");
    return {};
  }

  // How many conversations are asked at most; nullopt: time alone ends the load.
  std::optional<std::size_t> wanted() const {
    if (flags_.requests > 0) return flags_.requests;
    return length_ || recorded_ ? std::nullopt : std::optional(kRequestsDefault);
  }

  void ask_from(const load::ConversationSource& source) {
    // The times of an open loop bound it as well: none is drawn before it is due.
    if (open_ || !wanted())
      out_.workload.more = source;
    else
      out_.workload = load::take(*wanted(), source);
  }

  Status make_workload() {
    const Rng own(rng_.next());
    if (kind_ == "random") {
      ask_from(load::unrelated(input_, output_, own));
    } else if (kind_ == "shared-prefix") {
      ask_from(load::shared_prefixes(std::max(flags_.prefixes, 1U), flags_.prefix_tokens, input_,
                                     output_, own));
    } else if (kind_ == "multi-turn") {
      ask_from(load::conversations(turns_, flags_.prefix_tokens, input_, output_, own));
    } else if (kind_ == "servegen") {
      const auto clients = read_servegen_folder(path_);
      if (!clients) return std::unexpected(clients.error());
      const double span = to_seconds(length_.value_or(std::chrono::minutes(10))) * flags_.speed_up;
      auto sample = load::sample_servegen(*clients, trace_from_,
                                          Duration(static_cast<Duration::rep>(span * 1e9)), rng_);
      if (!sample) return std::unexpected(sample.error());
      out_.workload = std::move(*sample);
    } else if (recorded_) {
      const auto text = read_file(path_, kTraceBytesMax);
      if (!text) return std::unexpected(text.error());
      auto read = kind_ == "mooncake" ? load::read_mooncake(*text, path_, kRequestsMax)
                                      : load::read_csv_trace(*text, path_, kRequestsMax);
      if (!read) return std::unexpected(read.error());
      out_.workload = std::move(*read);
    } else {
      return wrong("--dataset",
                   fmt::format("'{}' is none; there are random, shared-prefix, multi-turn, "
                               "mooncake:FILE, azure:FILE, servegen:FOLDER",
                               flags_.dataset));
    }
    return recorded_ ? cut_recording() : Status();
  }

  Status cut_recording() {
    auto& all = out_.workload.conversations;
    const bool timed = all.empty() || all.front().turns.front().at;
    if (!timed && by_trace_)
      return wrong("--dataset", fmt::format("{} has lengths and no times: say --rate 10, or "
                                            "--concurrency 8 for a closed loop",
                                            path_));
    if (!timed && trace_from_ > Duration{})
      return wrong("--trace-from", fmt::format("{} has no times to begin at", path_));
    if (timed && kind_ != "servegen") skip_until(trace_from_);
    if (flags_.requests > 0 && all.size() > flags_.requests) all.resize(flags_.requests);
    if (all.empty()) return wrong("--trace-from", "the trace has ended by then");
    return {};
  }

  void skip_until(Duration from) {
    std::erase_if(out_.workload.conversations, [from](load::Conversation& conversation) {
      auto& at = conversation.turns.front().at;
      if (*at < from) return true;
      *at -= from;
      return false;
    });
  }

  Status set_times() {
    auto& all = out_.workload.conversations;
    if (open_) {
      const std::size_t most =
          recorded_ ? all.size() : wanted().value_or(std::numeric_limits<std::size_t>::max());
      // One more than are asked: sending ends when the next would have been due.
      auto starts = load::arrival_times(*open_, length_, std::max(most, most + 1), rng_);
      out_.options.length = length_;
      if (starts.size() > most) {
        out_.options.length = starts.back();
        starts.pop_back();
      }
      if (starts.empty())
        return wrong("--seconds", "no request is due within this time at this rate");
      out_.options.starts = std::move(starts);
    } else if (by_trace_) {
      std::vector<Duration> starts;
      for (const load::Conversation& conversation : all) {
        const double at = to_seconds(*conversation.turns.front().at) / flags_.speed_up;
        if (length_ && at >= to_seconds(*length_)) {
          out_.options.length = length_;
          break;
        }
        starts.emplace_back(static_cast<Duration::rep>(at * 1e9));
      }
      out_.options.starts = std::move(starts);
    } else {
      out_.options.at_once = flags_.concurrency;
      out_.options.length = length_;
    }
    if (out_.options.starts && all.size() > out_.options.starts->size())
      all.resize(out_.options.starts->size());
    return {};
  }

  void describe() {
    auto& setting = out_.setting;
    setting["dataset"] = flags_.dataset;
    if (!recorded_) {
      setting["input tokens"] = flags_.input;
      setting["output tokens"] = flags_.output;
    }
    if (kind_ == "shared-prefix")
      setting["prefixes"] = fmt::format("{} of {} tokens", flags_.prefixes, flags_.prefix_tokens);
    if (kind_ == "multi-turn")
      setting["turns"] = fmt::format("{}, {} tokens common to all, {} between turns", flags_.turns,
                                     flags_.prefix_tokens, flags_.think);
    // Both are what repeats this run.
    setting["seed"] =
        fmt::format("--seed {} --text-seed {}", flags_.seed.value_or(kSeedDefault), out_.text_seed);
    if (!out_.options.starts) {
      setting["arrivals"] = fmt::format("closed loop, {} at once", flags_.concurrency);
    } else if (by_trace_) {
      setting["arrivals"] = flags_.speed_up == 1
                                ? "the trace's"
                                : fmt::format("the trace's, {:g} times as fast", flags_.speed_up);
    } else {
      const char* law = open_->law == load::OpenArrivals::Law::kEven    ? "even"
                        : open_->law == load::OpenArrivals::Law::kGamma ? "Gamma"
                                                                        : "Poisson";
      setting["arrivals"] = fmt::format("{}, {} conversations/s", law, flags_.rate);
      if (open_->law == load::OpenArrivals::Law::kGamma)
        setting["arrivals"] += fmt::format(", variation {:g}", open_->burstiness);
    }
    if (!out_.workload.remark.empty()) setting["remark"] = out_.workload.remark;
  }

  const BenchServeFlags& flags_;
  Rng rng_;
  LoadPlan out_;
  std::string kind_, path_;
  load::Lengths input_, output_, turns_;
  Duration trace_from_{};
  std::optional<Duration> length_;
  std::optional<load::OpenArrivals> open_;
  bool recorded_ = false;
  bool by_trace_ = false;
};

}  // namespace

Result<LoadPlan> plan_load(const BenchServeFlags& flags) { return Planner(flags).plan(); }

}  // namespace pd::cli
