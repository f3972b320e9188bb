#include "net/port_owner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

namespace pd::net {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kListenState = "0A";  // TCP_LISTEN in /proc/net/tcp
constexpr std::size_t kCommandBytesMax = 120;

// Inodes of the listening sockets on `port` in one of /proc/net/tcp, /proc/net/tcp6.
void add_listening_inodes(const char* table, std::uint16_t port, std::vector<std::string>& out) {
  std::ifstream file(table);
  const std::string suffix = fmt::format(":{:04X}", port);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
    fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >>
        timeout >> inode;
    if (fields && state == kListenState && local.ends_with(suffix)) out.push_back(inode);
  }
}

bool holds_one_of(const fs::path& process, const std::vector<std::string>& links) {
  std::error_code failure;
  for (fs::directory_iterator fd(process / "fd", failure), end; !failure && fd != end;
       fd.increment(failure)) {
    std::error_code unreadable;
    const std::string link = fs::read_symlink(fd->path(), unreadable).string();
    if (!unreadable && std::ranges::find(links, link) != links.end()) return true;
  }
  return false;
}

std::string command_of(const fs::path& process) {
  std::ifstream file(process / "cmdline", std::ios::binary);
  std::string command(kCommandBytesMax, '\0');
  file.read(command.data(), static_cast<std::streamsize>(command.size()));
  command.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  while (command.ends_with('\0')) command.pop_back();
  for (char& c : command) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return command;
}

}  // namespace

std::optional<std::string> describe_port_owner(std::uint16_t port) {
  std::vector<std::string> links;
  add_listening_inodes("/proc/net/tcp", port, links);
  add_listening_inodes("/proc/net/tcp6", port, links);
  if (links.empty()) return std::nullopt;
  for (std::string& inode : links) inode = fmt::format("socket:[{}]", inode);
  std::error_code failure;
  for (fs::directory_iterator entry("/proc", failure), end; !failure && entry != end;
       entry.increment(failure)) {
    const std::string name = entry->path().filename().string();
    int pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    if (holds_one_of(entry->path(), links)) {
      return fmt::format("process {} ({})", pid, command_of(entry->path()));
    }
  }
  return std::nullopt;
}

}  // namespace pd::net
