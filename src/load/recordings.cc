// Traces of others as workloads: declared in workload.h.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "load/arrivals.h"
#include "load/workload.h"

namespace pd::load {
namespace {

using Json = nlohmann::json;

constexpr std::uint32_t kMooncakeBlock = 512;
constexpr std::int64_t kTokensMax = 10'000'000;
constexpr double kSecondsMax = 1e8;  // three years

std::unexpected<Error> mistake(std::string_view name, std::size_t line, std::string_view what) {
  return error(ErrorCode::kInvalidArgument, fmt::format("{}:{}: {}", name, line, what));
}

// The next line without its end; nullopt at the text's end.
std::optional<std::string_view> next_line(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::vector<std::string_view> cells(std::string_view line) {
  std::vector<std::string_view> out;
  while (true) {
    const std::size_t comma = line.find(',');
    out.push_back(line.substr(0, comma));
    if (comma == line.npos) return out;
    line.remove_prefix(comma + 1);
  }
}

std::optional<double> number_in(std::string_view cell) {
  double value = 0;
  const auto [end, problem] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (problem != std::errc{} || end != cell.data() + cell.size()) return std::nullopt;
  return value;
}

std::optional<std::uint32_t> tokens_in(std::string_view cell) {
  const auto value = number_in(cell);
  if (!value || !(*value >= 0) || *value > static_cast<double>(kTokensMax)) return std::nullopt;
  return static_cast<std::uint32_t>(*value);
}

// "2023-11-16 18:17:03.9799600" in seconds since 1970, or plain seconds.
std::optional<double> seconds_in(std::string_view cell) {
  if (const auto plain = number_in(cell)) return plain;
  const auto part = [cell](std::size_t at, std::size_t size) -> std::optional<int> {
    if (cell.size() < at + size) return std::nullopt;
    int value = 0;
    const char* end = cell.data() + at + size;
    const auto parsed = std::from_chars(cell.data() + at, end, value);
    return parsed.ec == std::errc{} && parsed.ptr == end ? std::optional(value) : std::nullopt;
  };
  const auto year = part(0, 4), month = part(5, 2), day = part(8, 2);
  const auto hour = part(11, 2), minute = part(14, 2);
  const auto second = cell.size() > 17 ? number_in(cell.substr(17)) : std::nullopt;
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<double>(days) * 86'400 + *hour * 3600 + *minute * 60 + *second;
}

Duration duration_of(double seconds) { return Duration(static_cast<Duration::rep>(seconds * 1e9)); }

void sort_by_time(Workload& workload) {
  std::ranges::stable_sort(workload.conversations, {}, [](const Conversation& conversation) {
    return conversation.turns.front().at.value_or(Duration{});
  });
}

std::optional<std::int64_t> count_in(const Json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number_integer()) return std::nullopt;
  const auto value = found->get<std::int64_t>();
  return value >= 0 && value <= kTokensMax ? std::optional(value) : std::nullopt;
}

}  // namespace

Result<Workload> read_mooncake(std::string_view text, std::string_view name, std::size_t count) {
  Workload out;
  std::size_t number = 0;
  while (out.conversations.size() < count) {
    const auto line = next_line(text);
    if (!line) break;
    ++number;
    if (line->empty()) continue;
    const Json json = Json::parse(*line, nullptr, false);
    if (!json.is_object()) return mistake(name, number, "not a JSON object");
    const auto input = count_in(json, "input_length"), output = count_in(json, "output_length");
    const auto at = json.find("timestamp"), ids = json.find("hash_ids");
    if (!input || !output || at == json.end() || !at->is_number())
      return mistake(name, number, "needs timestamp, input_length and output_length");
    const double seconds = at->get<double>() / 1000;
    if (!(seconds >= 0) || seconds > kSecondsMax) return mistake(name, number, "timestamp is off");
    Ask ask{duration_of(seconds), {}, static_cast<std::uint32_t>(*output)};
    auto left = static_cast<std::uint32_t>(*input);
    if (ids != json.end() && ids->is_array()) {
      for (const Json& id : *ids) {
        if (left == 0) break;
        if (!id.is_number_integer()) return mistake(name, number, "hash_ids: not integers");
        const std::uint32_t tokens = std::min(left, kMooncakeBlock);
        ask.prompt.push_back({mix64(id.get<std::uint64_t>()), tokens});
        left -= tokens;
      }
    }
    if (left > 0) ask.prompt.push_back({counter_random(number, left), left});
    out.conversations.push_back({{std::move(ask)}});
  }
  if (out.conversations.empty()) return mistake(name, 1, "no request in this file");
  sort_by_time(out);
  return out;
}

Result<Workload> read_csv_trace(std::string_view text, std::string_view name, std::size_t count) {
  const auto header = next_line(text);
  const auto names = cells(header.value_or(std::string_view()));
  const auto column = [&names](std::string_view azure, std::string_view plain) {
    const auto found =
        std::ranges::find_if(names, [&](auto cell) { return cell == azure || cell == plain; });
    return static_cast<std::size_t>(found - names.begin());
  };
  const std::size_t time = column("TIMESTAMP", "arrived_at");
  const std::size_t input = column("ContextTokens", "num_prefill_tokens");
  const std::size_t output = column("GeneratedTokens", "num_decode_tokens");
  const bool timed = time < names.size();
  const std::size_t most = std::max({timed ? time : 0, input, output});
  if (most >= names.size()) {
    return mistake(name, 1,
                   "the header must name ContextTokens,GeneratedTokens or num_prefill_tokens,"
                   "num_decode_tokens; for times also TIMESTAMP or arrived_at");
  }
  Workload out;
  std::size_t number = 1;
  std::optional<double> first;
  while (out.conversations.size() < count) {
    const auto line = next_line(text);
    if (!line) break;
    ++number;
    if (line->empty()) continue;
    const auto row = cells(*line);
    if (row.size() <= most) return mistake(name, number, "too few columns");
    const auto in = tokens_in(row[input]), made = tokens_in(row[output]);
    if (!in || !made) return mistake(name, number, "a number of tokens is missing");
    Ask ask{{}, {Piece{mix64(number), *in}}, *made};
    if (timed) {
      const auto at = seconds_in(row[time]);
      if (!at) return mistake(name, number, "the time is missing");
      if (!first) first = at;
      const double since = std::max(0.0, *at - *first);
      if (since > kSecondsMax)
        return mistake(name, number, "more than three years after the first");
      ask.at = duration_of(since);
    }
    out.conversations.push_back({{std::move(ask)}});
  }
  if (out.conversations.empty()) return mistake(name, 1, "no request in this file");
  sort_by_time(out);
  return out;
}

// --- ServeGen ------------------------------------------------------------------------------------

namespace {

constexpr double kRateWindow = 600;  // seconds
constexpr double kLengthWindow = 21'600;
constexpr double kGapMin = 1e-5;  // seconds, mean

// A table {length: probability} as its running sum.
class LengthTable {
 public:
  void add(std::uint32_t length, double probability) {
    total_ += probability;
    steps_.emplace_back(total_, length);
  }
  bool empty() const { return !(total_ > 0); }
  std::uint32_t draw(Rng& rng) const {
    const double at = rng.unit() * total_;
    const auto step =
        std::ranges::upper_bound(steps_, at, {}, &std::pair<double, std::uint32_t>::first);
    return step == steps_.end() ? steps_.back().second : step->second;
  }

 private:
  double total_ = 0;
  std::vector<std::pair<double, std::uint32_t>> steps_;
};

struct LengthTables {
  LengthTable input, output;
};
using LengthsByWindow = std::map<std::int64_t, LengthTables>;  // key: window start, seconds

// "{102: 0.0011, 103: 0.0119}", as Python prints a dictionary.
bool read_table(std::string_view text, LengthTable& out) {
  if (!text.starts_with('{') || !text.ends_with('}')) return false;
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view entry = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    while (text.starts_with(' ')) text.remove_prefix(1);
    const std::size_t colon = entry.find(':');
    if (colon == entry.npos) return false;
    std::string_view probability = entry.substr(colon + 1);
    while (probability.starts_with(' ')) probability.remove_prefix(1);
    const auto length = tokens_in(entry.substr(0, colon));
    const auto weight = number_in(probability);
    if (!length || !weight || !(*weight >= 0)) return false;
    out.add(std::max<std::uint32_t>(*length, 1), *weight);
  }
  return true;
}

Result<LengthsByWindow> read_lengths(const ServeGenClient& client) {
  LengthsByWindow out;
  const Json json = Json::parse(client.dataset_json, nullptr, false);
  if (!json.is_object()) return mistake(client.name, 1, "the dataset is not a JSON object");
  for (const auto& [key, tables] : json.items()) {
    const auto start = number_in(key);
    LengthTables window;
    const auto table = [&tables](const char* name) {
      const bool there = tables.is_object() && tables.contains(name) && tables[name].is_string();
      return there ? tables[name].get<std::string>() : std::string();
    };
    // Of multimodal clients only the text is asked for.
    std::string input = table("input_tokens");
    if (input.empty()) input = table("text_tokens");
    if (!start || !(*start >= 0) || *start > kSecondsMax || !read_table(input, window.input) ||
        !read_table(table("output_tokens"), window.output)) {
      return mistake(client.name, 1, fmt::format("dataset window {} cannot be read", key));
    }
    if (!window.input.empty() && !window.output.empty())
      out.emplace(static_cast<std::int64_t>(*start), std::move(window));
  }
  return out;
}

// The window that holds `at`, or the nearest that has lengths.
const LengthTables* lengths_at(const LengthsByWindow& windows, double at) {
  if (windows.empty()) return nullptr;
  auto after = windows.upper_bound(static_cast<std::int64_t>(at));
  if (after == windows.begin()) return &after->second;
  const auto before = std::prev(after);
  if (after == windows.end()) return &before->second;
  const bool inside = at < static_cast<double>(before->first) + kLengthWindow;
  return inside ? &before->second : &after->second;
}

// The arrivals of one window of one client, in seconds of the recording.
void draw_window(std::string_view law, double start, double end, double shape, double scale,
                 Rng& rng, std::vector<double>& out) {
  const auto gap = [&] {
    return law == "Weibull" ? weibull_draw(rng, shape, scale) : gamma_draw(rng, shape, scale);
  };
  // The first gap is cut at random: the window does not begin with an arrival.
  for (double at = start + gap() * rng.unit(); at < end; at += std::max(gap(), 1e-6))
    out.push_back(at);
}

Result<std::vector<double>> draw_client(const ServeGenClient& client, double from, double to,
                                        Rng& rng) {
  std::vector<double> out;
  std::string_view text = client.trace_csv;
  std::size_t number = 0;
  while (const auto line = next_line(text)) {
    ++number;
    const auto row = cells(*line);
    const auto start = number_in(row[0]);
    if (row.size() < 6 || !start)
      return mistake(client.name, number, "needs start, rate, variation, law and two parameters");
    if (row[3].empty() || *start + kRateWindow <= from || *start >= to) continue;
    const auto shape = number_in(row[4]), scale = number_in(row[5]);
    if ((row[3] != "Gamma" && row[3] != "Weibull") || !shape || !scale || !(*shape > 0) ||
        !(*scale > 0)) {
      return mistake(client.name, number, "no Gamma or Weibull law with positive parameters");
    }
    const double gap = *shape * *scale;
    if (row[3] == "Gamma" ? gap < kGapMin : *scale < kGapMin)
      return mistake(client.name, number, "more than 100,000 requests a second");
    draw_window(row[3], std::max(*start, from), std::min(*start + kRateWindow, to), *shape, *scale,
                rng, out);
  }
  return out;
}

}  // namespace

Result<Workload> sample_servegen(const std::vector<ServeGenClient>& clients, Duration from,
                                 Duration length, Rng& rng) {
  std::vector<LengthsByWindow> lengths;
  for (const ServeGenClient& client : clients) {
    if (client.dataset_json.empty()) {
      lengths.emplace_back();
      continue;
    }
    auto read = read_lengths(client);
    if (!read) return std::unexpected(read.error());
    lengths.push_back(std::move(*read));
  }
  const auto lender = std::ranges::find_if(lengths, [](const auto& l) { return !l.empty(); });
  if (lender == lengths.end())
    return error(ErrorCode::kInvalidArgument, "no client of this folder has lengths");

  Workload out;
  std::size_t borrowed = 0;
  const double start = to_seconds(from);
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const auto times = draw_client(clients[i], start, start + to_seconds(length), rng);
    if (!times) return std::unexpected(times.error());
    const LengthsByWindow& own = lengths[i].empty() ? *lender : lengths[i];
    if (lengths[i].empty()) borrowed += times->size();
    for (const double at : *times) {
      const LengthTables& tables = *lengths_at(own, at);
      out.conversations.push_back({{Ask{duration_of(at - start),
                                        {Piece{rng.next(), tables.input.draw(rng)}},
                                        tables.output.draw(rng)}}});
    }
  }
  if (out.conversations.empty())
    return error(ErrorCode::kInvalidArgument, "no request falls into this part of the recording");
  if (borrowed > 0) {
    out.remark = fmt::format(
        "the lengths of {} of {} requests are another client's: their own are "
        "not in the folder",
        borrowed, out.conversations.size());
  }
  sort_by_time(out);
  return out;
}

}  // namespace pd::load
