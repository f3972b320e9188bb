// The gateway's dispatcher against whole groups in virtual time, by seed. A failure prints the
// seed; `sim_test SEED [COUNT]` replays it, or runs more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "group_world.h"

namespace pd::sim {
namespace {

using policy::RequestEnd;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::optional<std::uint64_t> first_seed, seed_count;  // from the command line

template <typename Options, typename Check>
void for_each_seed(std::uint64_t count, Options&& options_of, Check&& check) {
  const std::uint64_t first = first_seed.value_or(1);
  for (std::uint64_t seed = first; seed < first + seed_count.value_or(count); ++seed) {
    WorldOptions options = options_of(seed);
    options.seed = seed;
    GroupWorld world(options);
    world.run();
    ASSERT_EQ(world.breach(), "") << "replay: sim_test " << seed << " 1";
    check(world);
    if (testing::Test::HasFatalFailure()) FAIL() << "replay: sim_test " << seed << " 1";
  }
}

void expect_all(const GroupWorld& world, RequestEnd::Why why) {
  for (const auto& [id, outcome] : world.outcomes()) {
    ASSERT_EQ(outcome.end.why, why) << "request " << id.low << ": " << outcome.end.error.message
                                    << ", " << outcome.got << " of " << outcome.wanted;
  }
}

// Faults are not the request's: this many are survived.
policy::RequestLimits patient() { return {.crashes_to_poison = 1000, .restarts_max = 1000}; }

TEST(DispatcherSim, TheSameSeedIsTheSameHistory) {
  WorldOptions options;
  options.kills = 3;
  options.freezes = 2;
  options.cancel_share = 0.1;
  GroupWorld one(options), two(options);
  options.seed = 2;
  GroupWorld other(options);
  for (GroupWorld* world : {&one, &two, &other}) world->run();
  EXPECT_EQ(one.log_hash(), two.log_hash());
  EXPECT_EQ(one.events(), two.events());
  EXPECT_NE(one.log_hash(), other.log_hash());
}

TEST(DispatcherSim, WithoutFaultsEverythingCompletes) {
  for_each_seed(
      40,
      [](std::uint64_t seed) {
        WorldOptions options;
        options.prefill = 1 + static_cast<int>(seed % 3);
        options.decode = 1 + static_cast<int>(seed / 3 % 3);
        return options;
      },
      [](const GroupWorld& world) { expect_all(world, RequestEnd::Why::kCompleted); });
}

TEST(DispatcherSim, EveryRequestSurvivesKillsVanishingsAndFreezes) {
  for_each_seed(
      200,
      [](std::uint64_t seed) {
        WorldOptions options;
        options.kills = static_cast<int>(seed % 4);
        options.vanishes = static_cast<int>(seed / 4 % 3);
        options.freezes = static_cast<int>(seed / 12 % 4);
        options.dispatcher.request = patient();
        return options;
      },
      [](const GroupWorld& world) { expect_all(world, RequestEnd::Why::kCompleted); });
}

TEST(DispatcherSim, AggregatedInstancesToo) {
  for_each_seed(
      60,
      [](std::uint64_t seed) {
        WorldOptions options;
        options.prefill = options.decode = 0;
        options.both = 2 + static_cast<int>(seed % 3);
        options.kills = static_cast<int>(seed % 3);
        options.freezes = static_cast<int>(seed / 3 % 2);
        options.dispatcher.request = patient();
        return options;
      },
      [](const GroupWorld& world) { expect_all(world, RequestEnd::Why::kCompleted); });
}

TEST(DispatcherSim, WithTheDefaultLimitsFewCrashesAreSurvivedAndNoneIsLost) {
  int poisoned = 0, completed = 0;
  for_each_seed(
      100,
      [](std::uint64_t) {
        WorldOptions options;
        options.kills = 6;
        options.vanishes = 2;
        return options;
      },
      [&](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          poisoned += outcome.end.why == RequestEnd::Why::kPoison;
          completed += outcome.end.why == RequestEnd::Why::kCompleted;
          ASSERT_TRUE(outcome.end.why == RequestEnd::Why::kCompleted ||
                      outcome.end.why == RequestEnd::Why::kPoison)
              << static_cast<int>(outcome.end.why) << ": " << outcome.end.error.message;
        }
      });
  EXPECT_LT(poisoned * 20, completed);
}

TEST(DispatcherSim, ClientsThatLeaveLeaveNothingBehind) {
  for_each_seed(
      100,
      [](std::uint64_t seed) {
        WorldOptions options;
        options.cancel_share = 0.7;
        options.kills = static_cast<int>(seed % 3);
        options.freezes = static_cast<int>(seed / 3 % 3);
        options.dispatcher.request = patient();
        return options;
      },
      [](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          ASSERT_TRUE(outcome.end.why == RequestEnd::Why::kCompleted ||
                      outcome.end.why == RequestEnd::Why::kCancelled);
        }
      });
}

TEST(DispatcherSim, AShortPoolEvictsAndPlacesAgain) {
  int evictions = 0;
  for_each_seed(
      60,
      [](std::uint64_t) {
        WorldOptions options;
        options.blocks = BlockCount(40);
        options.output_max = 300;
        options.dispatcher.request = patient();
        return options;
      },
      [&](const GroupWorld& world) {
        expect_all(world, RequestEnd::Why::kCompleted);
        evictions += world.evictions();
      });
  EXPECT_GT(evictions, 0);
}

// G9: told before the limit that it cannot be kept, and whoever is placed has the first token in
// time.
TEST(DispatcherSim, OverloadEndsAsBusyBeforeTheTtftLimitAndServesTheRestInTime) {
  int busy = 0, completed = 0, in_time = 0;
  for_each_seed(
      30,
      [](std::uint64_t) {
        WorldOptions options;
        options.prefill = options.decode = 1;
        options.requests = 600;
        options.ttft_limit = milliseconds(400);
        return options;
      },
      [&](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          if (outcome.end.why == RequestEnd::Why::kBusy) {
            ++busy;
            ASSERT_LE(*outcome.ended, outcome.first_limit);
            ASSERT_GE(*outcome.ended - outcome.submitted, milliseconds(200)) << "half of the limit";
            ASSERT_EQ(outcome.got, 0u);
          } else {
            ++completed;
            if (outcome.first && *outcome.first <= outcome.first_limit) ++in_time;
            ASSERT_EQ(outcome.end.why, RequestEnd::Why::kCompleted);
          }
        }
      });
  EXPECT_GT(busy, 100);
  EXPECT_GT(completed, 100);
  EXPECT_GE(in_time, completed * 95 / 100) << "of " << completed;
}

// G15: D has one place and P eight slots. Who has a first token has the others soon after, and who
// has none is told so in time.
TEST(DispatcherSim, NoStreamBeginsThatNoDTakes) {
  int completed = 0, busy = 0;
  for_each_seed(
      20,
      [](std::uint64_t) {
        WorldOptions options;
        options.prefill = options.decode = options.places = 1;
        options.slots = 8;
        options.requests = 40;
        options.output_max = 3000;  // some 3 s
        options.ttft_limit = seconds(6);
        options.total_limit = seconds(20);
        return options;
      },
      [&](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          completed += outcome.end.why == RequestEnd::Why::kCompleted;
          busy += outcome.end.why == RequestEnd::Why::kBusy;
          ASSERT_NE(outcome.end.why, RequestEnd::Why::kDeadline) << outcome.got;
          if (outcome.end.why == RequestEnd::Why::kBusy) {
            ASSERT_EQ(outcome.got, 0u);
            ASSERT_LE(*outcome.ended, outcome.first_limit);
          }
          const Duration stall = outcome.record.in(policy::RequestPhase::kWaitingDecode);
          ASSERT_LE(stall, seconds(6)) << "between its first tokens";
        }
      });
  EXPECT_GE(completed, 20 * 3);
  EXPECT_GE(busy, 20 * 20);
}

// G32: gateways share the instances and know nothing of each other.
TEST(DispatcherSim, SeveralGatewaysOfUnequalLoadLoseNothing) {
  for_each_seed(
      100,
      [](std::uint64_t seed) {
        WorldOptions options;
        options.gateways = std::vector<std::vector<unsigned>>{
            {1, 1}, {1, 30}, {1, 5, 25}, {1, 1, 1, 1, 1, 1, 1, 50}}[seed % 4];
        options.requests = 120;
        options.kills = static_cast<int>(seed / 4 % 3);
        options.vanishes = static_cast<int>(seed / 12 % 2);
        options.freezes = static_cast<int>(seed / 24 % 3);
        options.dispatcher.request = patient();
        return options;
      },
      [](const GroupWorld& world) { expect_all(world, RequestEnd::Why::kCompleted); });
}

TEST(DispatcherSim, AKilledGatewayTakesOnlyItsOwnRequestsAlong) {
  int lost = 0, completed = 0;
  for_each_seed(
      100,
      [](std::uint64_t seed) {
        WorldOptions options;
        options.gateways = {1, 1, 2, 4};
        options.gateway_kills = 1 + static_cast<int>(seed % 3);
        options.requests = 120;
        options.kills = static_cast<int>(seed / 3 % 2);
        options.freezes = static_cast<int>(seed / 6 % 2);
        options.dispatcher.request = patient();
        return options;
      },
      [&](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          lost += outcome.lost;
          completed += !outcome.lost;
          ASSERT_TRUE(outcome.lost || outcome.end.why == RequestEnd::Why::kCompleted);
        }
      });
  EXPECT_GT(lost, 100);
  EXPECT_GT(completed, 1000);
}

// How each gateway's requests fared, over some seeds at three times the load that P can take.
struct Fares {
  std::vector<int> all, served;
  std::vector<Duration> waited;  // those that were served, for their first token
  double share(std::size_t gateway) const { return 1.0 * served[gateway] / all[gateway]; }
  double mean_wait_s(std::size_t gateway) const {
    return to_seconds(waited[gateway]) / served[gateway];
  }
};

Fares overload(const std::vector<unsigned>& gateways, int slots) {
  Fares out;
  for (auto* counts : {&out.all, &out.served}) counts->assign(gateways.size(), 0);
  out.waited.assign(gateways.size(), {});
  for_each_seed(
      6,
      [&](std::uint64_t) {
        WorldOptions options;
        options.prefill = options.decode = 1;
        options.slots = slots;
        options.requests = 600;
        options.ttft_limit = milliseconds(400);
        options.gateways = gateways;
        return options;
      },
      [&](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          ++out.all[outcome.gateway];
          if (outcome.end.why != RequestEnd::Why::kCompleted) continue;
          ++out.served[outcome.gateway];
          out.waited[outcome.gateway] += *outcome.first - outcome.submitted;
        }
      });
  return out;
}

// G14: a gateway to which few requests come holds no place whose end it would notice. It is told of
// free ones, and has its share of them.
TEST(DispatcherSim, AGatewayOfFewRequestsIsNotStarvedByOneOfMany) {
  for (const int slots : {1, 8}) {
    const Fares fares = overload({1, 9, 90}, slots);
    EXPECT_LT(fares.share(2), 0.6) << "there was no contention";
    for (const std::size_t few : {0, 1}) {
      EXPECT_GE(fares.share(few), 0.99) << slots << " slots, gateway " << few;
      EXPECT_LE(fares.mean_wait_s(few), fares.mean_wait_s(2) / 5)
          << slots << " slots, gateway " << few;
    }
  }
}

TEST(DispatcherSim, GatewaysOfEqualLoadAreServedAlike) {
  for (const int slots : {1, 8}) {
    const Fares fares = overload({1, 1, 1, 1, 1, 1, 1}, slots);
    for (std::size_t one = 0; one < fares.all.size(); ++one) {
      EXPECT_GE(fares.share(one), 0.8 * fares.share(0)) << slots << " slots, gateway " << one;
      EXPECT_LE(fares.share(one), fares.share(0) / 0.8) << slots << " slots, gateway " << one;
    }
  }
}

// When all have ended, counted from the first.
Duration makespan(const WorldOptions& options) {
  GroupWorld world(options);
  world.run();
  EXPECT_EQ(world.breach(), "");
  Time first = Time::max(), last{};
  for (const auto& [id, outcome] : world.outcomes()) {
    first = std::min(first, outcome.submitted);
    last = std::max(last, *outcome.ended);
  }
  return last - first;
}

// Holding prompts back until D has room must not leave D without work.
TEST(DispatcherSim, ADIsNeverIdleForWantOfPrefills) {
  for (const int places : {1, 2, 16}) {
    for (const int output_max : {2, 20, 300}) {
      WorldOptions options;
      options.prefill = options.decode = 1;
      options.slots = 8;
      options.places = places;
      options.requests = 300;
      options.output_max = output_max;
      options.arrive_within = milliseconds(100);
      const Duration held_back = makespan(options);
      options.dispatcher.decode_patience = seconds(100000);
      const Duration at_once = makespan(options);
      EXPECT_LE(to_seconds(held_back), 1.05 * to_seconds(at_once))
          << places << " places, outputs up to " << output_max;
    }
  }
}

// G20: a tenant that sends a hundredth of what another does is served as if it were alone.
TEST(DispatcherSim, ALoudTenantDoesNotStarveAQuietOne) {
  int quiet_served = 0, quiet = 0, loud_served = 0, loud = 0;
  for_each_seed(
      30,
      [](std::uint64_t) {
        WorldOptions options;
        options.prefill = options.decode = 1;
        options.requests = 600;
        options.ttft_limit = milliseconds(400);
        options.quiet_every = 100;
        return options;
      },
      [&](const GroupWorld& world) {
        for (const auto& [id, outcome] : world.outcomes()) {
          const bool served = outcome.end.why == RequestEnd::Why::kCompleted;
          (outcome.quiet ? quiet : loud) += 1;
          (outcome.quiet ? quiet_served : loud_served) += served;
        }
      });
  EXPECT_GE(quiet_served, quiet * 0.95) << "of " << quiet;
  EXPECT_LT(loud_served, loud * 0.7) << "there was no contention";
}

}  // namespace
}  // namespace pd::sim

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1) pd::sim::first_seed = std::strtoull(argv[1], nullptr, 10);
  if (argc > 2) pd::sim::seed_count = std::strtoull(argv[2], nullptr, 10);
  return RUN_ALL_TESTS();
}
