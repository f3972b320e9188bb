// What tests of the dispatcher share: a group, requests, and the reports of legs that go well.
#pragma once

#include <gtest/gtest.h>

#include <variant>
#include <vector>

#include "policy/dispatcher.h"

namespace pd::policy {

class DispatcherFixture : public testing::Test {
 protected:
  void use(const DispatcherOptions& options, const std::vector<Member>& members) {
    dispatcher_ = Dispatcher(options);
    dispatcher_.on_topology(members, now_);
  }
  void submit(std::uint64_t id, Duration ttft = std::chrono::seconds(10),
              std::int64_t output_max = 1, std::vector<std::uint64_t> prefix = {}) {
    dispatcher_.submit({.request = {0, id},
                        .deadlines = {now_ + ttft, now_ + std::chrono::seconds(1000)},
                        .prompt = Tokens(10),
                        .output_max = Tokens(output_max),
                        .prefix = std::move(prefix)},
                       now_);
  }
  template <typename Action>
  std::vector<Action> polled() {
    std::vector<Action> out;
    for (const auto& action : dispatcher_.poll(now_)) {
      if (const auto* match = std::get_if<Action>(&action)) out.push_back(*match);
    }
    return out;
  }
  // Accepted, first token, KV ready.
  void prefill(const SendPrefill& leg) {
    const RequestLife* life = dispatcher_.find(leg.request);
    ASSERT_NE(life, nullptr);
    dispatcher_.on_accepted(leg.request, leg.leg, now_);
    EXPECT_TRUE(dispatcher_.on_tokens(leg.request, leg.leg, life->emitted(), 1, false, now_));
    dispatcher_.on_prefilled(leg.request, leg.leg, now_);
  }
  // Accepted, KV pulled.
  void join(const SendDecode& leg) {
    const RequestLife* life = dispatcher_.find(leg.request);
    ASSERT_NE(life, nullptr);
    const auto source = life->prefill_leg();
    dispatcher_.on_accepted(leg.request, leg.leg, now_);
    dispatcher_.on_joined(leg.request, leg.leg, now_);
    if (source) dispatcher_.on_released(leg.request, source->number, true, now_);
  }
  // All that are placed now, until nothing more is: prefilled and decoding.
  std::vector<SendDecode> run_placed() {
    std::vector<SendDecode> decoding;
    for (bool more = true; more;) {
      more = false;
      for (const auto& action : dispatcher_.poll(now_)) {
        if (const auto* p = std::get_if<SendPrefill>(&action)) prefill(*p), more = true;
        if (const auto* d = std::get_if<SendDecode>(&action)) {
          join(*d), more = true;
          decoding.push_back(*d);
        }
      }
    }
    return decoding;
  }
  void finish(const SendDecode& leg) {
    const RequestLife* life = dispatcher_.find(leg.request);
    ASSERT_NE(life, nullptr);
    EXPECT_TRUE(dispatcher_.on_tokens(leg.request, leg.leg, life->emitted(), 1, true, now_));
  }

  Time now_{std::chrono::seconds(1000)};
  Dispatcher dispatcher_{DispatcherOptions{}};
};

}  // namespace pd::policy
