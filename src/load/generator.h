// Puts a workload on a server and records what becomes of each request. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "load/answer_reader.h"
#include "load/record.h"
#include "load/workload.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace pd::load {

struct Target {
  net::HttpCall call;  // address, target and headers of every request; its body is ours
  bool chat = true;    // /v1/chat/completions, else /v1/completions
  std::string model;
  bool streamed = true;
  // Ask the server to go on to the wanted length; a field that not every server knows.
  bool ignore_eos = true;
  std::string extra;  // further fields of the body: "temperature":0
  TokenRate tokens;
  std::uint64_t text_seed = 1;  // of the prompts' words
};

struct GeneratorOptions {
  // Open loop: when the conversations begin, whatever the server does; as many of them are asked.
  // Without it closed loop: `at_once` conversations at any time.
  std::optional<std::vector<Duration>> starts;
  int at_once = 1;
  // When sending ends. Closed loop: no further conversation begins after this. Open loop: when the
  // one after `starts` would have been due, if that is known; rates are of this time.
  std::optional<Duration> length;
  Duration think{0};  // between an answer and the next turn of its conversation
  Duration patience{std::chrono::minutes(10)};  // from due; then the request is given up
};

// As of now; for a person who watches.
struct Progress {
  double elapsed_s = 0;
  std::uint64_t sent = 0, under_way = 0, completed = 0, rejected = 0, failed = 0;
  std::uint64_t pieces = 0;  // of text, streamed answers
};

class Generator {
 public:
  // `workload` outlives it. `on_end` runs once, when every record is there.
  Generator(net::EventLoop& loop, net::HttpClient& client, Target target, const Workload& workload,
            GeneratorOptions options, std::function<void()> on_end);
  void start();
  // Sends nothing more and gives up what is under way (kUnfinished).
  void stop();

  Progress progress() const;
  std::vector<Record> take_records() { return std::move(records_); }  // after on_end
  // Why the load was stopped early: this client's own lack, of descriptors for example, which says
  // nothing of the server. Empty: it was not.
  const std::string& own_trouble() const { return own_trouble_; }
  double elapsed_s() const { return to_seconds(loop_.now() - start_); }
  // For how long conversations were begun, as far as `length` or stop() say so; 0: until the last.
  double sending_s() const;
  // A closed loop whose workload is used up.
  bool ran_out() const {
    return !options_.starts && !workload_.more && begun_ >= workload_.conversations.size();
  }

 private:
  // A conversation under way: what was said so far, and what it waits for.
  struct Talk {
    std::size_t conversation = 0;
    std::vector<Ask> turns;
    std::uint32_t turn = 0;
    std::vector<std::string> said;  // by the user and the model in turns
    Time due{};
    Record record;
    std::optional<AnswerReader> reader;
    net::HttpClient::CallId call = 0;
    net::EventLoop::TimerId timer = 0;  // of patience, or of the pause before the next turn
    bool pausing = false;
  };

  void begin_due();
  void begin_next(Time due);
  std::vector<Ask> turns_of(std::size_t conversation) const;
  void ask(Talk& talk);
  std::string body_of(const Talk& talk, std::uint32_t output_tokens) const;
  void on_end(std::uint64_t id, const Status& outcome);
  void give_up(std::uint64_t id, Record::Outcome outcome, std::string why);
  void close_record(Talk& talk);
  void next_turn(std::uint64_t id);
  void drop(std::uint64_t id);
  bool may_begin() const;

  net::EventLoop& loop_;
  net::HttpClient& client_;
  Target target_;
  const Workload& workload_;
  GeneratorOptions options_;
  std::function<void()> on_end_;
  Time start_{};
  std::size_t begun_ = 0;  // conversations
  std::uint64_t sent_ = 0;
  net::EventLoop::TimerId next_timer_ = 0;
  bool stopped_ = false;
  Duration stopped_after_ = Duration::max();
  bool ended_ = false;
  std::string own_trouble_;
  std::unordered_map<std::uint64_t, Talk> talks_;
  std::vector<Record> records_;
  Progress counts_;
};

}  // namespace pd::load
