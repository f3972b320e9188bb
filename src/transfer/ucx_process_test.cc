// UCX between two processes: contents, order, and every way in which the other one can be gone.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <thread>

#include "transfer/kv_transport.h"
#include "transfer/test_support.h"
#include "transfer/ucx_wire.h"

namespace pd::transfer {
namespace {

using test::Peer;
using namespace std::chrono_literals;

constexpr std::int64_t kRegion = 65 << 20;
constexpr std::uint64_t kPeerBoot = 77;

struct Outcome {
  bool over = false;
  std::optional<ErrorCode> failed;
  bool right = false;  // the bytes are those of the peer's pattern
  std::string message;
};

class UcxProcess : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    UcxOptions options;
    if (GetParam() == "shm") options.wires = Wires::kSharedMemory;
    if (GetParam() == "tcp") options.wires = Wires::kTcp;
    options.connect_timeout = 500ms;
    options.staging_max = Bytes(100 << 20);
    transport_ = make_ucx_transport(BootId(5), options).value();
  }
  std::vector<std::string> arguments(std::uint64_t boot = kPeerBoot) const {
    return {std::to_string(boot), GetParam(), std::to_string(kRegion)};
  }
  KvTransport::PullId start(const Peer& peer, std::uint64_t offset, std::int64_t size,
                            Outcome& outcome) {
    return transport_->pull(peer.address(), {peer.region_key(), offset, Bytes(size)},
                            [&outcome, offset, size, boot = peer.address().boot_id](auto view) {
                              EXPECT_FALSE(outcome.over);
                              outcome.over = true;
                              if (!view) {
                                outcome.failed = view.error().code;
                                outcome.message = view.error().message;
                                return;
                              }
                              outcome.right = view->size() == static_cast<std::size_t>(size) &&
                                              test::has_pattern(*view, boot.value(), offset);
                            });
  }
  // Progresses until all are over; false: they were not after 10 s.
  bool finish(std::vector<Outcome*> outcomes) {
    const Time limit = SteadyTime::now() + 10s;
    const auto open = [](const Outcome* outcome) { return !outcome->over; };
    while (std::any_of(outcomes.begin(), outcomes.end(), open)) {
      if (SteadyTime::now() >= limit) return false;
      transport_->progress(limit);
    }
    return true;
  }
  Outcome pull(const Peer& peer, std::uint64_t offset, std::int64_t size) {
    Outcome outcome;
    start(peer, offset, size, outcome);
    EXPECT_TRUE(finish({&outcome}));
    return outcome;
  }
  Status connect(const PeerAddress& peer) {
    std::optional<Status> status;
    transport_->connect(peer, [&](Status s) { status = s; });
    while (!status) transport_->progress(SteadyTime::now() + 10s);
    return *status;
  }
  std::unique_ptr<KvTransport> transport_;
};

INSTANTIATE_TEST_SUITE_P(Wires, UcxProcess, testing::Values("shm", "tcp"),
                         [](const auto& param) { return param.param; });

TEST_P(UcxProcess, PulledBytesAreThePeersForEverySize) {
  const Peer peer(arguments());
  for (const std::int64_t size :
       {1L, 2L, 63L, 4096L, 65537L, 1L << 20, (1L << 20) + 1, 5000003L, 16L << 20, 64L << 20}) {
    for (const std::uint64_t offset : {0UL, 1UL, 4095UL}) {
      const Outcome outcome = pull(peer, offset, size);
      EXPECT_TRUE(outcome.right) << size << " at " << offset << ": " << outcome.message;
    }
  }
  EXPECT_EQ(transport_->transport_to(BootId(kPeerBoot)),
            GetParam() == "tcp" ? Transport::kTcp : Transport::kSharedMemory);
}

TEST_P(UcxProcess, ManySmallPullsUnderWayAtOnceEndInOrder) {
  const Peer peer(arguments());
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) {
    const auto offset = static_cast<std::uint64_t>(i * 977);
    transport_->pull(peer.address(), {peer.region_key(), offset, Bytes(1 + i % 7000)},
                     [&order, i, offset](auto view) {
                       ASSERT_TRUE(view) << view.error().message;
                       ASSERT_TRUE(test::has_pattern(*view, kPeerBoot, offset));
                       order.push_back(i);
                     });
  }
  const Time limit = SteadyTime::now() + 10s;
  while (order.size() < 1000 && SteadyTime::now() < limit) transport_->progress(limit);
  std::vector<int> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST_P(UcxProcess, RangesAndKeysThatAreNotThePeersAreRefused) {
  const Peer peer(arguments());
  EXPECT_EQ(pull(peer, kRegion, 1).failed, ErrorCode::kInvalidArgument);
  EXPECT_EQ(pull(peer, 0, 0).failed, ErrorCode::kInvalidArgument);
  EXPECT_EQ(pull(peer, 0, kRegion + 1).failed, ErrorCode::kInvalidArgument);
  EXPECT_EQ(pull(peer, ~0ULL, 2).failed, ErrorCode::kInvalidArgument);
  RegionKey key = decode_region_key(peer.region_key()).value();
  for (const std::string& other : {std::string("nonsense"), std::string(), [&] {
                                     key.owner = BootId(1);
                                     return encode(key);
                                   }()}) {
    Outcome outcome;
    transport_->pull(peer.address(), {other, 0, Bytes(1)}, [&](auto view) {
      outcome.over = true;
      outcome.failed = view ? ErrorCode::kInternal : view.error().code;
    });
    ASSERT_TRUE(finish({&outcome}));
    EXPECT_EQ(outcome.failed, ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(pull(peer, 0, 1000).right);
}

TEST_P(UcxProcess, ARegionKeyThatLiesAboutItsSizeReadsNothingBeyondTheRegion) {
  const Peer peer(arguments());
  RegionKey key = decode_region_key(peer.region_key()).value();
  key.size += std::uint64_t{1} << 40;
  Outcome outcome;
  transport_->pull(peer.address(), {encode(key), key.size - 8, Bytes(8)}, [&](auto view) {
    outcome.over = true;
    outcome.failed = view ? ErrorCode::kInternal : view.error().code;
  });
  ASSERT_TRUE(finish({&outcome}));
  EXPECT_EQ(outcome.failed, ErrorCode::kUnavailable);
  EXPECT_TRUE(pull(peer, 0, 1000).right);
}

TEST_P(UcxProcess, MessagesComeBackInTheOrderTheyWereSent) {
  const Peer peer(arguments());
  std::vector<std::string> received;
  transport_->on_notify([&](BootId from, std::span<const std::byte> message) {
    EXPECT_EQ(from, BootId(kPeerBoot));
    received.emplace_back(reinterpret_cast<const char*>(message.data()), message.size());
  });
  const std::string back = test::to_hex_text(transport_->address().blob) + " ";
  std::vector<std::string> sent;
  int left = 0;
  for (int i = 0; i < 300; ++i) {
    // Sizes on both sides of UCX's short and buffered protocols, up to the largest message.
    sent.push_back(std::to_string(i) + std::string(static_cast<std::size_t>(i * 13), 'x'));
    const std::string message = back + sent.back();
    ASSERT_LE(message.size(), kNotifyBytesMax);
    transport_->notify(peer.address(), std::as_bytes(std::span(message)),
                       [&](Status status) { left += status ? 1 : 0; });
  }
  const Time limit = SteadyTime::now() + 10s;
  while (received.size() < sent.size() && SteadyTime::now() < limit) transport_->progress(limit);
  EXPECT_EQ(received, sent);
  EXPECT_EQ(left, 300);
}

TEST_P(UcxProcess, AKilledPeerEndsEveryPullWithUnavailable) {
  const Peer peer(arguments());
  ASSERT_TRUE(connect(peer.address()));
  peer.send_signal(SIGSTOP);  // so that the pulls are surely under way when it dies
  Outcome outcomes[4];
  for (Outcome& outcome : outcomes) start(peer, 0, 30 << 20, outcome);
  transport_->progress(SteadyTime::now() + 20ms);
  const Time killed = SteadyTime::now();
  peer.send_signal(SIGKILL);
  ASSERT_TRUE(finish({&outcomes[0], &outcomes[1], &outcomes[2], &outcomes[3]}));
  EXPECT_LT(SteadyTime::now() - killed, 2s);
  for (const Outcome& outcome : outcomes) {
    // Memory that is mapped here stays readable, and right, after its owner's death.
    if (GetParam() == "tcp") {
      EXPECT_EQ(outcome.failed, ErrorCode::kUnavailable);
    } else {
      EXPECT_TRUE(outcome.right);
    }
  }
  // Whether or not its death was noticed in between, it is gone now.
  const Time limit = SteadyTime::now() + 5s;
  while (transport_->transport_to(BootId(kPeerBoot)) && SteadyTime::now() < limit) {
    transport_->progress(SteadyTime::now() + 10ms);
  }
  EXPECT_EQ(pull(peer, 0, 1).failed, ErrorCode::kUnavailable);
}

TEST_P(UcxProcess, AKillAmidAStreamOfPullsLosesNoAnswerAndNoByte) {
  const Peer peer(arguments());
  Outcome outcomes[8];
  for (Outcome& outcome : outcomes) start(peer, 0, 40 << 20, outcome);
  std::vector<Outcome*> all;
  for (Outcome& outcome : outcomes) all.push_back(&outcome);
  ASSERT_TRUE(finish({&outcomes[1]}));
  peer.send_signal(SIGKILL);
  ASSERT_TRUE(finish(all));
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.right || outcome.failed == ErrorCode::kUnavailable) << outcome.message;
  }
}

TEST_P(UcxProcess, AStoppedPeerIsUnavailableAfterTheTimeoutAndWelcomeBackLater) {
  const Peer peer(arguments());
  peer.send_signal(SIGSTOP);
  const Time begin = SteadyTime::now();
  const Outcome outcome = pull(peer, 0, 1000);
  EXPECT_EQ(outcome.failed, ErrorCode::kUnavailable);
  EXPECT_GE(SteadyTime::now() - begin, 450ms);
  EXPECT_LT(SteadyTime::now() - begin, 2s);
  peer.send_signal(SIGCONT);
  EXPECT_TRUE(pull(peer, 0, 1000).right);
}

TEST_P(UcxProcess, APeerThatStopsAmidAPullIsUnavailableAfterTheTimeout) {
  const Peer peer(arguments());
  ASSERT_TRUE(connect(peer.address()));
  peer.send_signal(SIGSTOP);
  const Time begin = SteadyTime::now();
  const Outcome outcome = pull(peer, 0, 64 << 20);
  EXPECT_LT(SteadyTime::now() - begin, 2s);
  if (GetParam() == "tcp") {
    EXPECT_EQ(outcome.failed, ErrorCode::kUnavailable);
  } else {
    EXPECT_TRUE(outcome.right);  // its memory does not need it
  }
  peer.send_signal(SIGCONT);
  EXPECT_TRUE(pull(peer, 0, 64 << 20).right);
}

TEST_P(UcxProcess, OnlyThePeersSilenceCountsNotOurOwn) {
  const Peer peer(arguments());
  ASSERT_TRUE(connect(peer.address()));
  // Callbacks that take longer than the timeout, as long as others wait behind them.
  int right = 0;
  for (int i = 0; i < 3; ++i) {
    transport_->pull(peer.address(), {peer.region_key(), 0, Bytes(20 << 20)}, [&](auto view) {
      ASSERT_TRUE(view) << view.error().message;
      const Time until = SteadyTime::now() + 700ms;
      while (SteadyTime::now() < until) {
      }
      ++right;
    });
  }
  const Time limit = SteadyTime::now() + 20s;
  while (right < 3 && SteadyTime::now() < limit) transport_->progress(limit);
  EXPECT_EQ(right, 3);
}

TEST_P(UcxProcess, AnotherInstanceAtTheSameAddressIsAnotherPeer) {
  auto first = std::make_unique<Peer>(arguments());
  const std::string old_key = first->region_key();
  ASSERT_TRUE(pull(*first, 0, 1000).right);
  first->send_signal(SIGKILL);
  first->wait();
  const Peer second(arguments(kPeerBoot + 1));
  // The old instance's identity at the address where now the new one listens.
  const PeerAddress old_address{BootId(kPeerBoot), second.address().blob};
  EXPECT_EQ(connect(first->address()).error().code, ErrorCode::kUnavailable);
  Outcome outcome;
  transport_->pull(old_address, {old_key, 0, Bytes(1000)}, [&](auto view) {
    outcome.over = true;
    outcome.failed = view ? ErrorCode::kInternal : view.error().code;
  });
  ASSERT_TRUE(finish({&outcome}));
  EXPECT_EQ(outcome.failed, ErrorCode::kUnavailable);
  EXPECT_EQ(connect(old_address).error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(transport_->transport_to(BootId(kPeerBoot)));
  EXPECT_TRUE(pull(second, 0, 1000).right);
  EXPECT_TRUE(connect(second.address()));
}

TEST_P(UcxProcess, ACancelledPullAnswersOnceAndFreesItsPlace) {
  const Peer peer(arguments());
  ASSERT_TRUE(connect(peer.address()));
  Outcome outcomes[6];
  std::vector<Outcome*> all;
  std::vector<KvTransport::PullId> ids;
  for (Outcome& outcome : outcomes) {
    ids.push_back(start(peer, 0, 60 << 20, outcome));
    all.push_back(&outcome);
  }
  transport_->progress(SteadyTime::now() + 5ms);
  for (const auto id : {ids[0], ids[3], ids[0]}) transport_->cancel(id);
  ASSERT_TRUE(finish(all));
  EXPECT_TRUE(outcomes[3].right || outcomes[3].failed == ErrorCode::kCancelled);
  if (GetParam() == "tcp") {
    EXPECT_EQ(outcomes[3].failed, ErrorCode::kCancelled);
  }
  for (const int i : {1, 2, 4, 5}) EXPECT_TRUE(outcomes[i].right) << outcomes[i].message;
  EXPECT_TRUE(pull(peer, 0, 64 << 20).right);
}

TEST_P(UcxProcess, ForgettingAPeerInsideItsCallbackIsSafe) {
  const Peer peer(arguments());
  Outcome first;
  Outcome second;
  transport_->pull(peer.address(), {peer.region_key(), 0, Bytes(5000)}, [&](auto view) {
    ASSERT_TRUE(view);
    transport_->forget(BootId(kPeerBoot));
    first.over = true;
    first.right = test::has_pattern(*view, kPeerBoot, 0);  // the view lasts as long as the call
  });
  start(peer, 0, 60 << 20, second);
  ASSERT_TRUE(finish({&first, &second}));
  EXPECT_TRUE(first.right);
  EXPECT_TRUE(second.right || second.failed == ErrorCode::kUnavailable);
  EXPECT_TRUE(pull(peer, 0, 1000).right);
}

TEST_P(UcxProcess, PullsBeyondTheStagingMemoryAreRefusedAndOthersTakeTurns) {
  if (GetParam() != "tcp") GTEST_SKIP() << "nothing is staged";
  UcxOptions options;
  options.wires = Wires::kTcp;
  options.staging_max = Bytes(8 << 20);
  transport_ = nullptr;
  transport_ = make_ucx_transport(BootId(6), options).value();
  const Peer peer(arguments());
  EXPECT_EQ(pull(peer, 0, (8 << 20) + 1).failed, ErrorCode::kInvalidArgument);
  Outcome outcomes[10];
  std::vector<Outcome*> all;
  for (Outcome& outcome : outcomes) {
    start(peer, 17, 5 << 20, outcome);
    all.push_back(&outcome);
  }
  ASSERT_TRUE(finish(all));
  for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.right) << outcome.message;
}

TEST_P(UcxProcess, AnInstancePullsFromItselfAndWritesToItself) {
  ExposedRegion region = transport_->expose(Bytes(100)).value();
  test::fill_pattern(region.memory, 1);
  bool right = false;
  transport_->pull(transport_->address(), {region.key, 10, Bytes(90)},
                   [&](auto view) { right = view && test::has_pattern(*view, 1, 10); });
  std::string received;
  transport_->on_notify([&](BootId from, std::span<const std::byte> message) {
    EXPECT_EQ(from, BootId(5));
    received.assign(reinterpret_cast<const char*>(message.data()), message.size());
  });
  transport_->notify(transport_->address(), std::as_bytes(std::span("x", 1)), nullptr);
  transport_->progress(SteadyTime::now());
  EXPECT_TRUE(right);
  EXPECT_EQ(received, "x");
}

TEST_P(UcxProcess, NothingRemainsInTheSharedMemoryFolder) {
  const auto count = [] {
    const std::filesystem::directory_iterator folder("/dev/shm");
    return std::count_if(begin(folder), end(folder), [](const auto& entry) {
      return entry.path().filename().string().find("ucx") != std::string::npos;
    });
  };
  const Peer peer(arguments());
  ASSERT_TRUE(pull(peer, 0, 1000).right);
  // Not even while both are alive: so a kill at any moment leaves nothing. Another process may be
  // starting just now; its segments have their names for milliseconds.
  const Time limit = SteadyTime::now() + 5s;
  while (count() > 0 && SteadyTime::now() < limit) {
    transport_->progress(SteadyTime::now() + 20ms);
  }
  EXPECT_EQ(count(), 0);
}

TEST(UcxTransport, AnInterfaceThatDoesNotExistIsNamed) {
  UcxOptions options;
  options.interface = "nosuch0";
  const auto transport = make_ucx_transport(BootId(1), options);
  ASSERT_FALSE(transport);
  EXPECT_EQ(transport.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(transport.error().message.find("nosuch0"), std::string::npos);
  EXPECT_NE(transport.error().message.find("lo"), std::string::npos);
  for (const char* several : {"all", "lo,eth0", "*"}) {
    options.interface = several;
    EXPECT_EQ(make_ucx_transport(BootId(1), options).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(UcxTransport, LeftToItselfItTakesSharedMemoryOnOneHost) {
  auto transport = make_ucx_transport(BootId(1), {}).value();
  const Peer peer({"2", "auto", "4096"});
  bool right = false;
  transport->pull(peer.address(), {peer.region_key(), 0, Bytes(4096)},
                  [&](auto view) { right = view && test::has_pattern(*view, 2, 0); });
  const Time limit = SteadyTime::now() + 10s;
  while (!right && SteadyTime::now() < limit) transport->progress(limit);
  EXPECT_TRUE(right);
  EXPECT_EQ(transport->transport_to(BootId(2)), Transport::kSharedMemory);
}

TEST(UcxTransport, AWakeFromAnotherThreadEndsTheSleep) {
  auto transport = make_ucx_transport(BootId(1), {}).value();
  const std::jthread other([&] { transport->wake(); });
  transport->progress(std::nullopt);
}

TEST(UcxTransport, AnIdleTransportSleepsInTheKernel) {
  auto transport = make_ucx_transport(BootId(1), {}).value();
  timespec before;
  timespec after;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  transport->progress(SteadyTime::now() + 300ms);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  const double cpu_ms = 1e3 * static_cast<double>(after.tv_sec - before.tv_sec) +
                        1e-6 * static_cast<double>(after.tv_nsec - before.tv_nsec);
  EXPECT_LT(cpu_ms, 50);
}

}  // namespace
}  // namespace pd::transfer
