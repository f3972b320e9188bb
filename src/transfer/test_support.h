// For tests and benches only: contents that can be checked without a copy of them, and a child
// process that serves them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "transfer/kv_transport.h"

namespace pd::transfer::test {

// Byte i of the pattern of `seed`, for any i: a block of it can be checked by itself.
void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed, std::uint64_t from = 0);
bool has_pattern(std::span<const std::byte> bytes, std::uint64_t seed, std::uint64_t from);

std::string to_hex_text(std::string_view bytes);
std::string from_hex_text(std::string_view text);

// A running test_peer. Killed when destroyed.
class Peer {
 public:
  // `arguments` as in test_peer.cc; CHECKs that it prints "ready".
  explicit Peer(const std::vector<std::string>& arguments);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  const PeerAddress& address() const { return address_; }
  const std::string& region_key() const { return region_key_; }
  // Words of the ready line after address and key.
  const std::vector<std::string>& words() const { return words_; }
  std::string read_line();
  void write_line(const std::string& line);
  void send_signal(int signal) const;
  void wait();  // until it has ended
  int id() const { return pid_; }

 private:
  int pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  std::string buffered_;
  PeerAddress address_;
  std::string region_key_;
  std::vector<std::string> words_;
};

}  // namespace pd::transfer::test
