// Which P gets a prompt whose first blocks several gateways have seen.
#include <algorithm>
#include <cmath>
#include <list>
#include <map>
#include <set>

#include "base/rng.h"
#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::seconds;

constexpr int kPrefills = 8;

class Gateway {
 public:
  Gateway(std::uint64_t seed, int places) : dispatcher_({.seed = seed}) {
    std::vector<Member> members{{WorkerId(1000), Role::kDecode, 0, 10000, true}};
    for (std::uint64_t id = 1; id <= kPrefills; ++id)
      members.push_back({WorkerId(id), Role::kPrefill, places, 0, true});
    dispatcher_.on_topology(members, now_);
  }
  // Placed and accepted.
  SendPrefill place(const std::vector<std::uint64_t>& prefix) {
    dispatcher_.submit({.request = {0, next_id_++},
                        .deadlines = {now_ + seconds(10), now_ + seconds(1000)},
                        .prompt = Tokens(64 * 4),
                        .prefix = prefix},
                       now_);
    for (const auto& action : dispatcher_.poll(now_)) {
      const auto* leg = std::get_if<SendPrefill>(&action);
      if (leg == nullptr) continue;
      dispatcher_.on_accepted(leg->request, leg->leg, now_);
      return *leg;
    }
    ADD_FAILURE() << "no place";
    return {};
  }
  void finish(const SendPrefill& leg) {
    EXPECT_TRUE(dispatcher_.on_tokens(leg.request, leg.leg, 0, 1, true, now_));
    dispatcher_.poll(now_);
  }

 private:
  Time now_{seconds(1000)};
  std::uint64_t next_id_ = 0;
  Dispatcher dispatcher_;
};

std::vector<std::uint64_t> prefix_of(std::uint64_t conversation, std::size_t blocks) {
  std::vector<std::uint64_t> out;
  for (std::size_t i = 0; i < blocks; ++i) out.push_back(mix64(conversation * 1000 + i));
  return out;
}

TEST(Affinity, GatewaysThatShareNothingSendAPrefixToTheSameP) {
  std::map<WorkerId, int> used;
  std::vector<Gateway> gateways;
  for (const std::uint64_t seed : {1, 22, 333, 4444}) gateways.emplace_back(seed, 16);
  for (Gateway& gateway : gateways)  // each is at moderate load: three of each P's places
    for (std::uint64_t i = 0; i < 3 * kPrefills; ++i) gateway.place({});
  for (std::uint64_t conversation = 1; conversation <= 64; ++conversation) {
    std::set<WorkerId> chosen;
    for (Gateway& gateway : gateways) {
      const SendPrefill leg = gateway.place(prefix_of(conversation, 3));
      chosen.insert(leg.worker);
      gateway.finish(leg);
    }
    EXPECT_EQ(chosen.size(), 1u) << conversation;
    ++used[*chosen.begin()];
  }
  EXPECT_EQ(used.size(), static_cast<std::size_t>(kPrefills)) << "prefixes are spread";
}

TEST(Affinity, APromptShorterThanABlockHasNoPreference) {
  std::set<WorkerId> chosen;
  for (std::uint64_t seed = 1; seed <= 32; ++seed) chosen.insert(Gateway(seed, 4).place({}).worker);
  EXPECT_GE(chosen.size(), 5u);
}

// A prefix that everybody has does not make one P do everything.
TEST(Affinity, AHotPrefixStaysWithinTheBoundedLoad) {
  Gateway gateway(1, 1000);
  std::map<WorkerId, int> open;
  std::set<WorkerId> first_two;  // who get the first three
  for (int sent = 1; sent <= 400; ++sent) {
    const auto blocks = 1 + static_cast<std::size_t>(sent) % 3;
    const WorkerId worker = gateway.place(prefix_of(7, blocks)).worker;
    if (sent <= 3) first_two.insert(worker);
    const double bound = WorkerPoolOptions{}.load_bound * sent / kPrefills;
    ASSERT_LE(++open[worker], std::ceil(bound) + 1) << "of " << sent;
  }
  // What the first one cannot take goes to the same second one everywhere.
  for (std::uint64_t seed = 2; seed <= 10; ++seed) {
    Gateway other(seed, 1000);
    std::set<WorkerId> chosen;
    for (int i = 0; i < 3; ++i) chosen.insert(other.place(prefix_of(7, 1)).worker);
    EXPECT_EQ(chosen, first_two);
  }
}

// What it knows goes before what all would guess: the prefix lies where it was computed.
TEST(Affinity, AGatewayComesBackToWhereItSentThePrefix) {
  for (std::uint64_t conversation = 1; conversation <= 16; ++conversation) {
    Gateway gateway(1, 16);
    const SendPrefill guessed = gateway.place(prefix_of(conversation, 1));
    const SendPrefill beside = gateway.place(prefix_of(conversation, 1));
    EXPECT_EQ(beside.worker, guessed.worker);
    const SendPrefill elsewhere = gateway.place(prefix_of(conversation, 2));  // the guess is full
    ASSERT_NE(elsewhere.worker, guessed.worker);
    gateway.finish(guessed);
    gateway.finish(beside);
    gateway.finish(elsewhere);
    const SendPrefill next = gateway.place(prefix_of(conversation, 4));
    EXPECT_EQ(next.worker, elsewhere.worker);
  }
}

// Conversations whose turns come to one of several gateways, each P with a cache for a part of
// them.
double hit_rate(int gateways, std::uint64_t seed, std::size_t load) {
  constexpr std::uint64_t kConversations = 160;
  constexpr std::size_t kCached = 24;  // conversations that a P's cache holds
  Rng rng(seed);
  std::vector<Gateway> all;
  for (int i = 0; i < gateways; ++i) all.emplace_back(rng.next(), 64);
  std::map<WorkerId, std::list<std::uint64_t>> caches;  // most recent first
  std::vector<std::list<SendPrefill>> running(all.size());
  int hits = 0;
  constexpr int kTurns = 8000;
  for (int turn = 0; turn < kTurns; ++turn) {
    const std::uint64_t conversation = 1 + rng.below(kConversations);
    const auto at = rng.below(all.size());
    const SendPrefill leg = all[at].place(prefix_of(conversation, 3));
    auto& cache = caches[leg.worker];
    const auto known = std::ranges::find(cache, conversation);
    if (known != cache.end()) {
      ++hits;
      cache.erase(known);
    }
    cache.push_front(conversation);
    if (cache.size() > kCached) cache.pop_back();
    running[at].push_back(leg);
    if (running[at].size() > load / all.size()) {
      all[at].finish(running[at].front());
      running[at].pop_front();
    }
  }
  return hits / static_cast<double>(kTurns);
}

TEST(Affinity, FourGatewaysFindNearlyAsManyPrefixesCachedAsOne) {
  for (const std::size_t load : {8, 16, 32}) {
    double one = 0, four = 0;
    for (const std::uint64_t seed : {1, 2, 3}) {
      one += hit_rate(1, seed, load) / 3;
      four += hit_rate(4, seed, load) / 3;
    }
    EXPECT_GE(one, 0.75) << load << " at a time";
    EXPECT_GE(four, 0.9 * one) << load << " at a time, one alone: " << one;
  }
}

}  // namespace
}  // namespace pd::policy
