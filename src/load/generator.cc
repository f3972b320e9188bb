#include "load/generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/text.h"

namespace pd::load {

Generator::Generator(net::EventLoop& loop, net::HttpClient& client, Target target,
                     const Workload& workload, GeneratorOptions options,
                     std::function<void()> on_end)
    : loop_(loop),
      client_(client),
      target_(std::move(target)),
      workload_(workload),
      options_(std::move(options)),
      on_end_(std::move(on_end)) {}

void Generator::start() {
  start_ = loop_.now();
  if (options_.starts) return begin_due();
  for (int i = 0; i < options_.at_once && may_begin(); ++i) begin_next(loop_.now());
  if (talks_.empty()) drop(0);
}

bool Generator::may_begin() const {
  if (stopped_ || (begun_ >= workload_.conversations.size() && !workload_.more)) return false;
  if (options_.starts) return begun_ < options_.starts->size();
  return !options_.length || loop_.now() - start_ < *options_.length;
}

void Generator::begin_due() {
  next_timer_ = 0;
  while (may_begin()) {
    const Time due = start_ + (*options_.starts)[begun_];
    if (due > loop_.now()) {
      next_timer_ = loop_.call_at(due, [this] { begin_due(); });
      return;
    }
    begin_next(due);
  }
  if (talks_.empty()) drop(0);
}

void Generator::begin_next(Time due) {
  const std::size_t conversation = begun_++;
  Talk& talk = talks_.try_emplace(conversation).first->second;
  talk.conversation = conversation;
  talk.turns = turns_of(conversation);
  talk.due = due;
  ask(talk);
}

std::vector<Ask> Generator::turns_of(std::size_t conversation) const {
  const auto& listed = workload_.conversations;
  return conversation < listed.size() ? listed[conversation].turns : workload_.more().turns;
}

// --- one request ---------------------------------------------------------------------------------

void Generator::ask(Talk& talk) {
  const Ask& ask = talk.turns[talk.turn];
  // Words cost what they cost once per request: an overhead belongs to its first piece alone.
  talk.said.push_back(
      text_of(ask.prompt, {target_.tokens.per_word, talk.turn == 0 ? target_.tokens.overhead : 0},
              target_.text_seed));
  talk.record = Record{};
  talk.record.index = sent_++;
  talk.record.conversation = talk.conversation;
  talk.record.turn = talk.turn;
  talk.record.due_s = to_seconds(talk.due - start_);
  talk.pausing = false;
  talk.reader.emplace(target_.streamed, talk.turn + 1 < talk.turns.size());
  const std::uint64_t id = talk.conversation;

  net::HttpCall call = target_.call;
  call.body = body_of(talk, std::max<std::uint32_t>(ask.output_tokens, 1));
  call.connect_timeout = options_.patience;
  net::HttpCallHandlers handlers;
  AnswerReader* reader = &*talk.reader;  // lives as long as the call
  handlers.on_head = [reader](int status, const std::vector<net::Header>&) {
    reader->head(status);
  };
  handlers.on_data = [this, reader](std::string_view bytes) {
    const std::size_t before = reader->pieces().size();
    reader->feed(bytes, loop_.now());
    counts_.pieces += reader->pieces().size() - before;
  };
  handlers.on_end = [this, id](const Status& outcome) { on_end(id, outcome); };
  talk.record.sent_s = to_seconds(loop_.now() - start_);
  talk.call = client_.call(std::move(call), std::move(handlers));
  talk.timer = loop_.call_at(talk.due + options_.patience, [this, id] {
    give_up(id, Record::Outcome::kTimedOut,
            fmt::format("no whole answer within {:.3g} s", to_seconds(options_.patience)));
  });
}

std::string Generator::body_of(const Talk& talk, std::uint32_t output_tokens) const {
  std::string out = R"({"model":")";
  append_json_escaped(out, target_.model);
  if (target_.chat) {
    out += R"(","messages":[)";
    for (std::size_t i = 0; i < talk.said.size(); ++i) {
      out += i == 0       ? R"({"role":"user","content":")"
             : i % 2 == 0 ? R"(,{"role":"user","content":")"
                          : R"(,{"role":"assistant","content":")";
      append_json_escaped(out, talk.said[i]);
      out += "\"}";
    }
    out += ']';
  } else {
    out += R"(","prompt":")";
    for (const std::string& words : talk.said) append_json_escaped(out, words);
    out += '"';
  }
  fmt::format_to(std::back_inserter(out), R"(,"max_tokens":{})", output_tokens);
  if (target_.streamed) out += R"(,"stream":true,"stream_options":{"include_usage":true})";
  if (target_.ignore_eos) out += R"(,"ignore_eos":true)";
  if (!target_.extra.empty()) out.append(",").append(target_.extra);
  return out += '}';
}

void Generator::on_end(std::uint64_t id, const Status& outcome) {
  if (!outcome && outcome.error().code == ErrorCode::kNoCapacity) {
    own_trouble_ = outcome.error().message;
    return stop();
  }
  Talk& talk = talks_.at(id);
  loop_.cancel(talk.timer);
  Record& record = talk.record;
  record.status = talk.reader->status();
  record.error = outcome ? talk.reader->verdict() : outcome.error().message;
  const bool busy = record.status == 429 || record.status == 503;
  record.outcome = record.error.empty() ? Record::Outcome::kCompleted
                   : busy               ? Record::Outcome::kRejected
                                        : Record::Outcome::kFailed;
  close_record(talk);
  next_turn(id);
}

void Generator::give_up(std::uint64_t id, Record::Outcome outcome, std::string why) {
  Talk& talk = talks_.at(id);
  loop_.cancel(talk.timer);
  client_.cancel(talk.call);
  talk.record.outcome = outcome;
  talk.record.status = talk.reader->status();
  talk.record.error = std::move(why);
  close_record(talk);
  drop(id);
}

void Generator::close_record(Talk& talk) {
  Record& record = talk.record;
  const auto& pieces = talk.reader->pieces();
  const auto since_due = [&talk](Time at) { return to_ms(at - talk.due); };
  record.e2e_ms = since_due(loop_.now());
  record.ttft_ms = pieces.empty() || !target_.streamed ? record.e2e_ms : since_due(pieces.front());
  if (target_.streamed) {
    for (std::size_t i = 1; i < pieces.size(); ++i)
      record.itl_ms.push_back(static_cast<float>(to_ms(pieces[i] - pieces[i - 1])));
  }
  record.prompt_tokens = talk.reader->prompt_tokens();
  record.cached_tokens = talk.reader->cached_tokens();
  record.output_tokens = talk.reader->output_tokens();
  record.has_usage = talk.reader->has_usage();
  switch (record.outcome) {
    case Record::Outcome::kCompleted:
      ++counts_.completed;
      break;
    case Record::Outcome::kRejected:
      ++counts_.rejected;
      break;
    case Record::Outcome::kFailed:
    case Record::Outcome::kTimedOut:
      ++counts_.failed;
      break;
    case Record::Outcome::kUnfinished:
      break;
  }
  records_.push_back(std::move(record));
}

// A conversation goes on only where its last answer is there to be built upon.
void Generator::next_turn(std::uint64_t id) {
  Talk& talk = talks_.at(id);
  const bool answered = records_.back().completed();
  if (stopped_ || !answered || talk.turn + 1 >= talk.turns.size()) return drop(id);
  talk.said.push_back(talk.reader->text());
  ++talk.turn;
  talk.due = loop_.now() + options_.think;
  talk.pausing = true;
  talk.timer = loop_.call_at(talk.due, [this, id] { ask(talks_.at(id)); });
}

// The conversation is over; `id` may be of none, when there was none at all.
void Generator::drop(std::uint64_t id) {
  talks_.erase(id);
  if (!options_.starts && may_begin()) return begin_next(loop_.now());
  if (!talks_.empty() || may_begin() || std::exchange(ended_, true)) return;
  // Later: this runs inside start() when there is nothing to do.
  loop_.post([this] { on_end_(); });
}

void Generator::stop() {
  if (std::exchange(stopped_, true)) return;
  stopped_after_ = loop_.now() - start_;
  loop_.cancel(next_timer_);
  std::vector<std::uint64_t> open;
  for (const auto& [id, talk] : talks_) open.push_back(id);
  std::ranges::sort(open);
  for (const std::uint64_t id : open) {
    if (talks_.at(id).pausing) {
      loop_.cancel(talks_.at(id).timer);
      drop(id);
    } else {
      give_up(id, Record::Outcome::kUnfinished, "the load was stopped");
    }
  }
  if (open.empty()) drop(0);
}

double Generator::sending_s() const {
  if (!options_.length || ran_out()) return 0;
  return to_seconds(std::min(*options_.length, stopped_after_));
}

Progress Generator::progress() const {
  Progress out = counts_;
  out.elapsed_s = elapsed_s();
  out.sent = sent_;
  out.under_way = sent_ - out.completed - out.rejected - out.failed;
  return out;
}

}  // namespace pd::load
