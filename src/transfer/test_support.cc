#include "transfer/test_support.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "base/check.h"
#include "base/rng.h"

extern char** environ;

// The peer itself uses this file for its patterns, and starts nobody.
#ifndef PD_TRANSFER_TEST_PEER
#define PD_TRANSFER_TEST_PEER ""
#endif

namespace pd::transfer::test {

void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed, std::uint64_t from) {
  for (std::size_t i = 0; i < bytes.size();) {
    const std::uint64_t word = counter_random(seed, (from + i) / 8);
    const std::size_t skip = (from + i) % 8;
    const std::size_t n = std::min(bytes.size() - i, 8 - skip);
    std::memcpy(bytes.data() + i, reinterpret_cast<const std::byte*>(&word) + skip, n);
    i += n;
  }
}

bool has_pattern(std::span<const std::byte> bytes, std::uint64_t seed, std::uint64_t from) {
  std::byte expected[4096];
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(expected)) {
    const std::size_t n = std::min(bytes.size() - i, sizeof(expected));
    fill_pattern(std::span(expected, n), seed, from + i);
    if (std::memcmp(expected, bytes.data() + i, n) != 0) return false;
  }
  return true;
}

std::string to_hex_text(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    out += "0123456789abcdef"[static_cast<unsigned char>(byte) >> 4];
    out += "0123456789abcdef"[static_cast<unsigned char>(byte) & 15];
  }
  return out;
}

std::string from_hex_text(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out += static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16));
  }
  return out;
}

Peer::Peer(const std::vector<std::string>& arguments) {
  int to_child[2];
  int from_child[2];
  CHECK(::pipe2(to_child, O_CLOEXEC) == 0);
  CHECK(::pipe2(from_child, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to_child[0], 0);
  posix_spawn_file_actions_adddup2(&actions, from_child[1], 1);
  std::string program = PD_TRANSFER_TEST_PEER;
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv{program.data()};
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  CHECK(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(to_child[0]);
  ::close(from_child[1]);
  input_ = to_child[1];
  output_ = from_child[0];

  std::istringstream line(read_line());
  std::string word;
  line >> word;
  CHECK(word == "ready");
  line >> word;
  address_ = {BootId(std::stoull(arguments[0])), from_hex_text(word)};
  line >> word;
  region_key_ = from_hex_text(word);
  while (line >> word) words_.push_back(word);
}

Peer::~Peer() {
  ::close(input_);
  ::close(output_);
  send_signal(SIGKILL);
  wait();
}

std::string Peer::read_line() {
  while (true) {
    const std::size_t end = buffered_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return line;
    }
    char bytes[4096];
    const ssize_t n = ::read(output_, bytes, sizeof(bytes));
    if (n <= 0) return "";
    buffered_.append(bytes, static_cast<std::size_t>(n));
  }
}

void Peer::write_line(const std::string& line) {
  const std::string bytes = line + "\n";
  CHECK(::write(input_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
}

void Peer::send_signal(int signal) const {
  if (pid_ > 0) ::kill(pid_, signal);
}

void Peer::wait() {
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace pd::transfer::test
