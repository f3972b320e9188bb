// The other process of the two-process tests and of handoff_bench: exposes a region with a pattern,
// or with the range of a prompt, and answers messages.
//
//   transfer_test_peer BOOT_ID shm|tcp|auto REGION_BYTES [TOKENS]
//
// Prints "ready ADDRESS_HEX KEY_HEX" once it serves. With TOKENS a test::Range of kTestLayout lies
// at kTestRangeOffset. A message "ADDRESS_HEX text" is sent back as "text" to that address; for a
// handoff message "notice OUTCOME" is printed. The line "damage" on standard input flips a bit of
// the range, "withdraw" invalidates it; both are answered with "ok". Ends when standard input does.
#include <fmt/format.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <thread>

#include "base/bounded_queue.h"
#include "base/log.h"
#include "protocol/handoff_message.h"
#include "transfer/kv_range.h"
#include "transfer/kv_transport.h"
#include "transfer/test_range.h"
#include "transfer/test_support.h"

namespace {

using namespace pd;
using namespace pd::transfer;

void obey(const std::string& line, const test::Range& range) {
  if (line == "damage") range.kv()[range.kv().size() / 3] ^= std::byte{1};
  if (line == "withdraw") invalidate_range(range.bytes());
  fmt::print("ok\n");
  std::fflush(stdout);
}

int serve(KvTransport& kv, const ExposedRegion& region, std::int64_t tokens) {
  std::optional<test::Range> range;
  if (tokens > 0) {
    range.emplace(test::kTestLayout, Tokens(tokens), 1,
                  region.memory.subspan(test::kTestRangeOffset));
  } else {
    test::fill_pattern(region.memory, kv.address().boot_id.value());
  }
  kv.on_notify([&](BootId from, std::span<const std::byte> message) {
    if (const auto notice = protocol::decode_handoff_message(message)) {
      fmt::print("notice {}\n", static_cast<int>(notice->outcome));
      std::fflush(stdout);
      return;
    }
    const std::string text(reinterpret_cast<const char*>(message.data()), message.size());
    const std::size_t space = text.find(' ');
    if (space == std::string::npos) return;
    const PeerAddress back{from, test::from_hex_text(text.substr(0, space))};
    kv.notify(back, std::as_bytes(std::span(text).subspan(space + 1)), nullptr);
  });
  fmt::print("ready {} {}\n", test::to_hex_text(kv.address().blob), test::to_hex_text(region.key));
  std::fflush(stdout);

  BoundedQueue<std::string> orders(16);
  std::atomic<bool> over = false;
  const std::jthread reader([&] {
    for (std::string line; std::getline(std::cin, line);) {
      (void)orders.try_push(std::move(line));
      kv.wake();
    }
    over = true;
    kv.wake();
  });
  while (!over) {
    while (const auto order = orders.try_pop()) {
      if (range) obey(*order, *range);
    }
    kv.progress(std::nullopt);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) return 2;
  log::configure("test_peer", log::Level::kWarn);
  const std::string wires = argv[2];
  UcxOptions options;
  if (wires == "shm") options.wires = Wires::kSharedMemory;
  if (wires == "tcp") options.wires = Wires::kTcp;
  auto transport = make_ucx_transport(BootId(std::strtoull(argv[1], nullptr, 10)), options);
  if (!transport) {
    fmt::print(stderr, "{}\n", transport.error().message);
    return 1;
  }
  auto region = (*transport)->expose(Bytes(std::atoll(argv[3])));
  if (!region) {
    fmt::print(stderr, "{}\n", region.error().message);
    return 1;
  }
  return serve(**transport, *region, argc == 5 ? std::atoll(argv[4]) : 0);
}
