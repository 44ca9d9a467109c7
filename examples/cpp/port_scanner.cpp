// Finds the open TCP ports of a host, hundreds at a time.
//
// Shows fibers by the hundred, a Semaphore that bounds how many are at work, and connecting with a timeout.
//
//   port_scanner                                          ports 1 to 1024 of this machine
//   port_scanner HOST FIRST LAST CONCURRENCY SECONDS      as: port_scanner example.org 20 9000 500 0.5
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <weft/weft.hpp>

namespace {

enum Answer { kOpen, kClosed, kSilent };

Answer probe(const weft::net::Address& address, std::chrono::nanoseconds timeout) {
  try {
    weft::net::TcpStream::connect(address, {.timeout = timeout});
    return kOpen;
  } catch (const weft::Timeout&) {
    return kSilent;
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::connection_refused) throw;
    return kClosed;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const char* host = argc > 1 ? argv[1] : "127.0.0.1";
  const int first = argc > 2 ? atoi(argv[2]) : 1, last = argc > 3 ? atoi(argv[3]) : std::max(first, 1024);
  const int concurrency = argc > 4 ? atoi(argv[4]) : 200;
  const std::chrono::duration<double> timeout(argc > 5 ? atof(argv[5]) : 1);
  if (argc > 6 || first < 1 || last < first || last > 65535 || concurrency < 1 || timeout.count() <= 0) {
    fprintf(stderr, "Usage: port_scanner [HOST [FIRST [LAST [CONCURRENCY [SECONDS]]]]]\n");
    return 2;
  }
  const weft::Runtime runtime;
  const weft::net::Address address = weft::net::resolve(host, "").front();
  weft::Semaphore permits(static_cast<uint32_t>(concurrency));
  int counts[3] = {};
  weft::TaskGroup group;
  for (int port = first; port <= last; ++port)
    (void)group.spawn([&, port] {
      const weft::Permit permit(permits);
      const Answer answer = probe(address.with_port(static_cast<uint16_t>(port)),
                                  std::chrono::duration_cast<std::chrono::nanoseconds>(timeout));
      ++counts[answer];
      if (answer == kOpen) printf("%d open\n", port);
    });
  group.join();
  printf("%d open, %d closed, %d silent\n", counts[kOpen], counts[kClosed], counts[kSilent]);
  return 0;
} catch (const std::exception& error) {
  fprintf(stderr, "port_scanner: %s\n", error.what());
  return 1;
}
