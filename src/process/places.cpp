#include "process/places.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "process/tree.hpp"
#include "weft/net/address.hpp"

namespace weft::process {

namespace {

namespace fs = std::filesystem;

constexpr unsigned kListen = 10;  // TCP_LISTEN, as /proc/net/tcp has it

// The numbers of the sockets that `pid` has open.
void add_sockets(pid_t pid, std::set<unsigned long>& sockets) {
  std::error_code ignored;
  for (fs::directory_iterator entry("/proc/" + std::to_string(pid) + "/fd", ignored), end; entry != end;
       entry.increment(ignored)) {
    const std::string target = fs::read_symlink(entry->path(), ignored).string();
    unsigned long number = 0;
    if (sscanf(target.c_str(), "socket:[%lu]", &number) == 1) sockets.insert(number);
  }
}

// A line's local address: 32-bit words of the machine's byte order, in hexadecimal; empty: not understood.
std::string address_of(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon != 8 && colon != 32) return {};
  uint32_t words[4] = {};
  for (size_t i = 0; i < colon / 8; ++i)
    words[i] = static_cast<uint32_t>(std::stoul(text.substr(8 * i, 8), nullptr, 16));
  const auto port = static_cast<uint16_t>(std::stoul(text.substr(colon + 1), nullptr, 16));
  if (colon == 8) return net::Address::ipv4(ntohl(words[0]), port).to_string();
  in6_addr six;
  std::copy_n(words, 4, six.s6_addr32);
  return net::Address::ipv6(six, port).to_string();
}

void add_places(const std::string& table, const std::set<unsigned long>& sockets,
                std::set<std::string>& places) {
  std::ifstream lines(table);
  std::string line;
  std::getline(lines, line);  // the names of the columns
  while (std::getline(lines, line)) {
    char local[64];
    unsigned state;
    unsigned long number;
    if (sscanf(line.c_str(), " %*u: %63s %*s %x %*s %*s %*s %*u %*d %lu", local, &state, &number) == 3 &&
        state == kListen && sockets.contains(number))
      places.insert(address_of(local));
  }
}

}  // namespace

std::vector<std::string> listening_places(pid_t ancestor) {
  const std::vector<Process> family = descendants(ancestor);
  std::set<unsigned long> sockets;
  for (const Process& process : family) add_sockets(process.pid, sockets);
  std::set<std::string> places;
  if (!sockets.empty())
    for (const char* const table : {"/net/tcp", "/net/tcp6"})
      add_places("/proc/" + std::to_string(family.front().pid) + table, sockets, places);
  places.erase("");
  return {places.begin(), places.end()};
}

}  // namespace weft::process
