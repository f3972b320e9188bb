#include "net/descriptor_handover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/http_server_testing.h"

namespace pd::net::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class DescriptorHandoverTest : public HttpServerTest {
 protected:
  DescriptorHandoverTest() {
    std::string pattern = (fs::temp_directory_path() / "pdserve_handover_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ / "socket";
  }
  ~DescriptorHandoverTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  // A server on two sockets, which it offers.
  void serve_and_offer(HttpServer::Handler handler = answer_ok) {
    auto listeners = open_listeners("127.0.0.1", 0, 2);
    ASSERT_TRUE(listeners) << listeners.error().message;
    auto copies = duplicate(*listeners);
    ASSERT_TRUE(copies);
    copies_ = std::move(*copies);
    auto server = HttpServer::adopt(loop_, {}, std::move(*listeners), std::move(handler));
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    port_ = server_->port();
    auto offer = DescriptorOffer::create(
        loop_, path_,
        [this]() -> Result<Parcel> {
          auto again = duplicate(copies_);
          if (!again) return std::unexpected(again.error());
          return Parcel{"a note", std::move(*again)};
        },
        [this] {
          copies_.clear();
          server_->stop_accepting(1s);
          taken_.push(1);
        });
    ASSERT_TRUE(offer) << offer.error().message;
    offer_ = std::move(*offer);
    thread_ = std::jthread([this] { loop_.run(); });
  }
  void end_offer() {
    on_loop([this] { offer_.reset(); });
  }
  bool taken(Duration within) { return taken_.pop_until(SteadyTime::now() + within).has_value(); }

  fs::path folder_, path_;
  std::vector<UniqueFd> copies_;
  std::unique_ptr<DescriptorOffer> offer_;
  BoundedQueue<int> taken_{10};
};

TEST_F(DescriptorHandoverTest, NoConnectionIsRefusedWhileTheOwnerChanges) {
  serve_and_offer();
  auto take = DescriptorTake::from(path_);
  ASSERT_TRUE(take) << take.error().message;
  ASSERT_TRUE(take->has_value());
  Parcel& parcel = (*take)->parcel();
  EXPECT_EQ(parcel.note, "a note");
  ASSERT_EQ(parcel.descriptors.size(), 2U);

  EventLoop next_loop;
  auto next = HttpServer::adopt(next_loop, {}, std::move(parcel.descriptors),
                                [](HttpRequest, HttpResponse response) {
                                  response.send(200, "text/plain", "from the next");
                                });
  ASSERT_TRUE(next);
  EXPECT_EQ((*next)->port(), port_);
  std::jthread next_thread([&] { next_loop.run(); });

  // Clients come all the time, each on a connection of its own.
  std::atomic<bool> over = false;
  std::atomic<int> old_answers = 0, next_answers = 0, refused = 0;
  std::jthread clients([&] {
    while (!over || next_answers < 50) {
      const std::string answer =
          answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      if (answer.find("from the next") != answer.npos)
        ++next_answers;
      else if (answer.find("got /") != answer.npos)
        ++old_answers;
      else if (++refused > 100)
        return;
    }
  });
  while (next_answers + old_answers < 50) std::this_thread::yield();
  EXPECT_TRUE((*take)->confirm());
  EXPECT_TRUE(taken(5s));
  end_offer();
  over = true;
  clients.join();
  EXPECT_EQ(refused, 0);
  EXPECT_GE(next_answers, 50);
  EXPECT_FALSE(fs::exists(path_) && DescriptorTake::from(path_).value_or(std::nullopt))
      << "nothing is offered any more";
  next_loop.post([&] {
    next->reset();
    next_loop.stop();
  });
}

TEST_F(DescriptorHandoverTest, ATakerThatGoesChangesNothing) {
  serve_and_offer();
  for (int round = 0; round < 3; ++round) {
    auto take = DescriptorTake::from(path_);
    ASSERT_TRUE(take && take->has_value());
    take->reset();  // with everything it was given
  }
  EXPECT_FALSE(taken(0s));
  EXPECT_THAT(answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
              ::testing::HasSubstr("got /"));
  end_offer();
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(DescriptorHandoverTest, OnlyItsUserMayOpenThePath) {
  serve_and_offer();
  struct stat there{};
  ASSERT_EQ(::stat(path_.c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 0777, 0600U);
  end_offer();
}

TEST_F(DescriptorHandoverTest, NobodyThereIsNoError) {
  auto take = DescriptorTake::from(path_);
  ASSERT_TRUE(take);
  EXPECT_FALSE(take->has_value());
}

TEST_F(DescriptorHandoverTest, WhatADeadProcessLeftIsReplacedAndAFileIsNot) {
  serve_and_offer();
  const fs::path stale = folder_ / "stale";
  fs::rename(path_, stale);
  end_offer();
  const auto nobody = DescriptorTake::from(stale);
  ASSERT_TRUE(nobody);
  EXPECT_FALSE(nobody->has_value());
  EventLoop loop;
  const auto pack = [] { return Result<Parcel>(Parcel{}); };
  EXPECT_TRUE(DescriptorOffer::create(loop, stale, pack, [] {}));
  std::ofstream(folder_ / "file") << "precious";
  EXPECT_FALSE(DescriptorOffer::create(loop, folder_ / "file", pack, [] {}));
  EXPECT_TRUE(fs::exists(folder_ / "file"));
  EXPECT_FALSE(DescriptorOffer::create(loop, folder_ / std::string(200, 'x'), pack, [] {}));
  EXPECT_FALSE(DescriptorTake::from(folder_ / std::string(200, 'x')));
}

// Idle connections may still bring a request while the server ends.
TEST_F(DescriptorHandoverTest, AnIdleConnectionIsServedOnceMore) {
  serve_and_offer();
  RawSocket kept = RawSocket::to(port_);
  kept.send(kGet);
  kept.read_until("got / ");
  on_loop([this] { server_->stop_accepting(10s); });
  kept.send(kGet);
  const std::string last = kept.read_to_end();
  EXPECT_THAT(last, ::testing::HasSubstr("onnection: close"));
  EXPECT_THAT(last, ::testing::HasSubstr("got /"));
  end_offer();
}

// A response that has promised to keep the connection when the server is told to stop.
TEST_F(DescriptorHandoverTest, AnAnswerKeepsItsPromise) {
  std::optional<HttpResponse> held;
  serve_and_offer([&](const HttpRequest&, HttpResponse response) {
    if (held) return response.send(200, "text/plain", "second");
    response.start(200, "text/plain");
    response.write("first");
    held = response;
  });
  RawSocket kept = RawSocket::to(port_);
  kept.send(kGet);
  EXPECT_THAT(kept.read_until("first"), Not(::testing::HasSubstr("onnection: close")));
  on_loop([&] {
    server_->stop_accepting(10s);
    held->end();
  });
  kept.read_until("0\r\n\r\n");
  kept.send(kGet);
  const std::string last = kept.read_to_end();
  EXPECT_THAT(last, ::testing::HasSubstr("onnection: close"));
  EXPECT_THAT(last, ::testing::HasSubstr("second"));
  on_loop([&] { held.reset(); });
  end_offer();
}

TEST_F(DescriptorHandoverTest, AnIdleConnectionEndsWithItsGrace) {
  serve_and_offer();
  RawSocket kept = RawSocket::to(port_);
  kept.send(kGet);
  kept.read_until("got / ");
  on_loop([this] { server_->stop_accepting(50ms); });
  EXPECT_EQ(kept.read_to_end(), "");
  end_offer();
}

}  // namespace
}  // namespace pd::net::testing
