#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "transfer/kv_transport.h"

namespace pd::transfer {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class InProcess : public testing::Test {
 protected:
  void SetUp() override {
    hub_ = make_in_process_hub();
    p_ = make_in_process_transport(hub_, BootId(1));
    d_ = make_in_process_transport(hub_, BootId(2));
    region_ = p_->expose(Bytes(10000)).value();
    std::memcpy(region_.memory.data() + 500, "hello", 5);
  }
  RemoteRange range(std::uint64_t offset, std::int64_t size) const {
    return {region_.key, offset, Bytes(size)};
  }
  // The outcome of one pull as text, or the error's name.
  std::string pull(const RemoteRange& range, BootId peer = BootId(1)) {
    std::string outcome = "nothing";
    d_->pull({peer, ""}, range, [&](Result<std::span<const std::byte>> view) {
      outcome = view ? text_of(*view) : std::string(to_string(view.error().code));
    });
    EXPECT_EQ(outcome, "nothing");  // callbacks run inside progress()
    d_->progress(Time());
    return outcome;
  }
  std::shared_ptr<InProcessHub> hub_;
  std::unique_ptr<KvTransport> p_;
  std::unique_ptr<KvTransport> d_;
  ExposedRegion region_;
};

TEST_F(InProcess, AViewShowsTheOwnersBytes) {
  EXPECT_FALSE(d_->transport_to(BootId(1)));
  EXPECT_EQ(pull(range(500, 5)), "hello");
  EXPECT_EQ(d_->transport_to(BootId(1)), Transport::kInProcess);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(region_.memory.data()) % 4096, 0U);
  EXPECT_EQ(region_.memory.size(), 10000U);
}

TEST_F(InProcess, ARangeOutsideTheRegionIsRefused) {
  const std::string refused(to_string(ErrorCode::kInvalidArgument));
  EXPECT_EQ(pull(range(9999, 2)), refused);
  EXPECT_EQ(pull(range(~0ULL, 1)), refused);
  EXPECT_EQ(pull(range(0, 0)), refused);
  EXPECT_EQ(pull(range(0, -1)), refused);
  EXPECT_EQ(pull({"no such key", 0, Bytes(1)}), refused);
}

TEST_F(InProcess, APeerThatIsGoneOrAnotherBootIsUnavailable) {
  const std::string unavailable(to_string(ErrorCode::kUnavailable));
  EXPECT_EQ(pull(range(0, 1), BootId(3)), unavailable);
  p_ = nullptr;
  EXPECT_EQ(pull(range(0, 1)), unavailable);
}

TEST_F(InProcess, CancelAndForgetEndAPullExactlyOnce) {
  std::vector<ErrorCode> codes;
  const auto record = [&](Result<std::span<const std::byte>> view) {
    codes.push_back(view ? ErrorCode::kInternal : view.error().code);
  };
  const auto first = d_->pull(p_->address(), range(0, 1), record);
  d_->pull(p_->address(), range(0, 1), record);
  d_->cancel(first);
  d_->progress(Time());
  d_->cancel(first);
  d_->pull(p_->address(), range(0, 1), record);
  d_->forget(BootId(1));
  d_->progress(Time());
  EXPECT_EQ(codes,
            (std::vector{ErrorCode::kCancelled, ErrorCode::kInternal, ErrorCode::kUnavailable}));
}

TEST_F(InProcess, MessagesArriveInOrderWithTheSendersBootId) {
  std::vector<std::string> received;
  p_->on_notify([&](BootId from, std::span<const std::byte> message) {
    EXPECT_EQ(from, BootId(2));
    received.push_back(text_of(message));
  });
  int sent = 0;
  for (const char* text : {"a", "b", "c"}) {
    d_->notify(p_->address(), bytes_of(text), [&](Status status) { sent += status ? 1 : 0; });
  }
  const std::string large(4097, 'x');
  d_->notify(p_->address(), bytes_of(large), [](Status status) { EXPECT_FALSE(status); });
  d_->progress(Time());
  p_->progress(Time());
  EXPECT_EQ(sent, 3);
  EXPECT_EQ(received, (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(InProcess, AnotherThreadsMessageOrWakeEndsTheSleep) {
  int received = 0;
  p_->on_notify([&](BootId, std::span<const std::byte>) { ++received; });
  std::jthread peer([this] {
    d_->notify(p_->address(), bytes_of("x"), nullptr);
    p_->wake();
  });
  while (received == 0) p_->progress(std::nullopt);
  peer.join();
  p_->wake();
  p_->progress(std::nullopt);  // returns: woken
}

}  // namespace
}  // namespace pd::transfer
