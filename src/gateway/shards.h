// The shards of one gateway and the threads that run their loops; questions to all of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/shard.h"
#include "net/event_loop.h"

namespace pd::gateway {

class Shards {
 public:
  // The first shard lives on `main`, which the caller runs.
  Shards(net::EventLoop& main, const ShardContext& context, int count);
  ~Shards();  // stops the threads; `main` does not run any more
  Shards(const Shards&) = delete;
  Shards& operator=(const Shards&) = delete;

  // Each shard gets its share of the listening sockets, by turns; a shard that would get none gets
  // another descriptor of one. Before run().
  Status open_doors(std::vector<UniqueFd> listeners, const net::HttpServerOptions& options);
  void run();  // starts the threads of all but the first

  std::size_t count() const { return shards_.size(); }
  std::uint16_t port() const { return shards_.front().shard->port(); }

  // Any thread.
  bool reads_text() const {
    return std::ranges::any_of(shards_, [](const Member& m) { return m.shard->reads_text(); });
  }

  // Runs `work` for each shard on its loop. Any thread.
  void each(const std::function<void(Shard&)>& work);

  // Asks each shard on its loop; `then` has the answers in order, on `asker`: a shard's loop.
  template <typename Answer>
  void gather(net::EventLoop& asker, std::function<Answer(Shard&)> question,
              std::function<void(std::vector<Answer>)> then);

 private:
  struct Member {
    net::EventLoop* loop = nullptr;
    std::unique_ptr<net::EventLoop> own_loop;  // null: the first one's
    std::unique_ptr<Shard> shard;
    std::jthread thread;
  };
  std::vector<Member> shards_;
};

template <typename Answer>
void Shards::gather(net::EventLoop& asker, std::function<Answer(Shard&)> question,
                    std::function<void(std::vector<Answer>)> then) {
  // Shards write side by side: an element each of vector<bool> would not be theirs alone.
  static_assert(!std::is_same_v<Answer, bool>);
  struct Round {
    std::function<Answer(Shard&)> question;
    std::function<void(std::vector<Answer>)> then;
    std::vector<Answer> answers;
    std::atomic<std::size_t> missing;
  };
  // An answer may be let go on another thread than the asker's, `then` may not: it leaves the round
  // with the last answer.
  auto round = std::make_shared<Round>();
  round->question = std::move(question);
  round->then = std::move(then);
  round->answers.resize(shards_.size());
  round->missing = shards_.size();
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const auto ask = [round, i, &asker, shard = shards_[i].shard.get()] {
      round->answers[i] = round->question(*shard);
      if (--round->missing > 0) return;
      auto finish = [then = std::exchange(round->then, nullptr),
                     answers = std::move(round->answers)]() mutable { then(std::move(answers)); };
      asker.post(std::move(finish));
    };
    shards_[i].loop->post(ask);
  }
}

}  // namespace pd::gateway
