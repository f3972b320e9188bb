// The other process of the two-process tests: exposes a region with a pattern, echoes messages.
//
//   transfer_test_peer BOOT_ID shm|tcp|auto REGION_BYTES
//
// Prints "ready ADDRESS_HEX KEY_HEX" once it serves. A message "ADDRESS_HEX text" is sent back as
// "text" to that address. Ends when standard input does.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/log.h"
#include "transfer/kv_transport.h"
#include "transfer/test_support.h"

namespace {

using namespace pd;
using namespace pd::transfer;

int serve(KvTransport& kv, ExposedRegion region) {
  test::fill_pattern(region.memory, kv.address().boot_id.value());
  kv.on_notify([&](BootId from, std::span<const std::byte> message) {
    const std::string text(reinterpret_cast<const char*>(message.data()), message.size());
    const std::size_t space = text.find(' ');
    if (space == std::string::npos) return;
    const PeerAddress back{from, test::from_hex_text(text.substr(0, space))};
    kv.notify(back, std::as_bytes(std::span(text).subspan(space + 1)), nullptr);
  });
  fmt::print("ready {} {}\n", test::to_hex_text(kv.address().blob), test::to_hex_text(region.key));
  std::fflush(stdout);

  std::atomic<bool> over = false;
  const std::jthread watcher([&] {
    char bytes[256];
    while (::read(0, bytes, sizeof(bytes)) > 0) {
    }
    over = true;
    kv.wake();
  });
  while (!over) kv.progress(std::nullopt);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
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
  return serve(**transport, *region);
}
