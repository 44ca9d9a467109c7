// Every result and errno of the socket calls, compared with libc's own in the same run.
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <numeric>

#include "support/native_and_fiber.hpp"
#include "support/sockets.hpp"

namespace weft::engine::test {
namespace {

constexpr size_t kMiB = 1024 * 1024;

const NamedScenario kScenarios[] = {
    {"NonblockingSocketsNeverWait",
     [](Stage& s) {
       FdPair pair = socket_pair();
       char byte;
       s.tell("recv MSG_DONTWAIT", s.call.recv(pair.first, &byte, 1, MSG_DONTWAIT));
       fcntl(pair.first, F_SETFL, O_NONBLOCK);
       s.tell("recv", s.call.recv(pair.first, &byte, 1, 0));
       s.tell("recv MSG_WAITALL", s.call.recv(pair.first, &byte, 1, MSG_WAITALL));
       msghdr none{};
       s.tell("recvmsg", s.call.recvmsg(pair.first, &none, 0));
       std::vector<char> much(kMiB);
       const ssize_t part = s.call.send(pair.first, much.data(), much.size(), 0);
       s.note("a part was sent", part > 0 && part < static_cast<ssize_t>(much.size()));
       s.tell("send", s.call.send(pair.first, much.data(), much.size(), 0));
       Listener listener(AF_INET);
       fcntl(listener.fd, F_SETFL, O_NONBLOCK);
       s.tell("accept", s.call.accept(listener.fd, nullptr, nullptr));
     }},
    {"WrongDescriptors",
     [](Stage& s) {
       char byte = 0;
       msghdr none{};
       FdPair pipe = pipe_pair();
       Fd tcp(socket(AF_INET, SOCK_STREAM, 0)), udp(socket(AF_INET, SOCK_DGRAM, 0));
       const sockaddr_in nowhere = loopback(0);
       const auto* address = reinterpret_cast<const sockaddr*>(&nowhere);
       for (const int fd : {-1, 9999, pipe.first, tcp.fd, udp.fd}) {
         s.note("descriptor", fd == -1           ? "negative"
                              : fd == 9999       ? "closed"
                              : fd == pipe.first ? "pipe"
                                                 : "socket");
         if (fd != udp.fd) s.tell("recv", s.call.recv(fd, &byte, 1, 0));
         if (fd != udp.fd) s.tell("recvmsg", s.call.recvmsg(fd, &none, 0));
         if (fd != udp.fd)
           s.tell("recvfrom WAITALL", s.call.recvfrom(fd, &byte, 1, MSG_WAITALL, nullptr, nullptr));
         s.tell("send", s.call.send(fd, &byte, 1, MSG_NOSIGNAL));
         s.tell("sendmsg", s.call.sendmsg(fd, &none, MSG_NOSIGNAL));
         s.tell("sendmmsg", s.call.sendmmsg(fd, nullptr, 0, 0));
         s.tell("recvmmsg", s.call.recvmmsg(fd, nullptr, 0, 0, nullptr));
         s.tell("accept", s.call.accept(fd, nullptr, nullptr));
         s.tell("accept4 with a wrong flag", s.call.accept4(fd, nullptr, nullptr, 0x1));
         s.tell("connect without address", s.call.connect(fd, nullptr, 0));
         if (fd != tcp.fd && fd != udp.fd) s.tell("connect", s.call.connect(fd, address, sizeof nowhere));
         s.tell("sendfile", s.call.sendfile(fd, fd, nullptr, 1));
         s.tell("splice", s.call.splice(fd, nullptr, fd, nullptr, 1, 0));
         s.tell("tee", s.call.tee(fd, fd, 1, 0));
         s.tell("setsockopt", s.call.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &byte, 1));
       }
     }},
    {"ConnectionsRefused",
     [](Stage& s) {
       Fd socket(::socket(AF_INET, SOCK_STREAM, 0));
       sockaddr_in nobody = loopback(free_port());
       s.tell("connect", s.call.connect(socket.fd, reinterpret_cast<sockaddr*>(&nobody), sizeof nobody));
       Listener listener(AF_INET);
       s.tell("connect again", s.call.connect(socket.fd, listener.address(), listener.length));
       s.tell("connect once more", s.call.connect(socket.fd, listener.address(), listener.length));
       s.note("blocking", (fcntl(socket.fd, F_GETFL) & O_NONBLOCK) == 0);
       Fd unix_socket(::socket(AF_UNIX, SOCK_STREAM, 0));
       sockaddr_un path{AF_UNIX, "/nonexistent/weft"};
       s.tell("unix connect",
              s.call.connect(unix_socket.fd, reinterpret_cast<sockaddr*>(&path), sizeof path));
       Fd udp(::socket(AF_INET, SOCK_DGRAM, 0));
       s.tell("udp connect", s.call.connect(udp.fd, reinterpret_cast<sockaddr*>(&nobody), sizeof nobody));
       char byte = 0;
       s.tell("udp send", s.call.send(udp.fd, &byte, 1, 0));
       s.tell("udp recv", s.call.recv(udp.fd, &byte, 1, 0));
     }},
    {"AcceptTellsWhoConnects",
     [](Stage& s) {
       for (const int family : {AF_INET, AF_INET6, AF_UNIX}) {
         Listener listener(family);
         s.beside([&] {
           Fd client(socket(family, SOCK_STREAM, 0));
           s.call.connect(client.fd, listener.address(), listener.length);
           char byte;
           s.call.recv(client.fd, &byte, 1, 0);
         });
         sockaddr_storage peer{};
         socklen_t length = sizeof peer;
         auto* address = reinterpret_cast<sockaddr*>(&peer);
         Fd accepted(s.call.accept4(listener.fd, address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
         s.note("accepted", accepted.fd >= 0);
         s.note("length", length);
         s.note("family", peer.ss_family);
         s.note("non-blocking", (fcntl(accepted.fd, F_GETFL) & O_NONBLOCK) != 0);
         s.note("close-on-exec", fcntl(accepted.fd, F_GETFD));
         s.call.send(accepted.fd, "x", 1, 0);
         s.join();
       }
       s.join();
     }},
    {"AcceptOfAShutDownListener",
     [](Stage& s) {
       Listener listener(AF_INET);
       s.beside([&] { shutdown(listener.fd, SHUT_RDWR); });
       s.tell("accept", s.call.accept(listener.fd, nullptr, nullptr));
       s.tell("accept again", s.call.accept(listener.fd, nullptr, nullptr));
       s.join();
     }},
    {"EndOfStream",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char buffer[8];
       s.beside([&] { shutdown(pair.second, SHUT_WR); });
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("recv again", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("send", s.call.send(pair.first, "x", 1, 0));
       s.join();
     }},
    {"ShutdownWakesTheReader",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char buffer[8];
       s.beside([&] { shutdown(pair.first, SHUT_RD); });
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.join();
     }},
    {"Reset",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char buffer[8];
       s.beside([&] { reset(pair.second); });
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("recv again", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("send", s.call.send(pair.first, "x", 1, MSG_NOSIGNAL));
       s.join();
     }},
    {"BrokenPipe",
     [](Stage& s) {
       for (const int family : {AF_INET, AF_UNIX}) {
         FdPair pair = connected(family);
         SignalCounter pipes(SIGPIPE);
         shutdown(pair.first, SHUT_WR);
         s.tell("send MSG_NOSIGNAL", s.call.send(pair.first, "x", 1, MSG_NOSIGNAL));
         s.note("signals", pipes.count());
         s.tell("send", s.call.send(pair.first, "x", 1, 0));
         s.note("signals", pipes.count());
       }
     }},
    {"ResetWhileSending",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       SignalCounter pipes(SIGPIPE);
       std::vector<char> much(32 * kMiB);
       s.beside([&] {
         char byte;
         s.call.recv(pair.second, &byte, 1, 0);
         reset(pair.second);
       });
       const ssize_t part = s.call.send(pair.first, much.data(), much.size(), 0);
       s.note("a part was sent", part > 0 && part < static_cast<ssize_t>(much.size()));
       s.note("signals", pipes.count());
       s.tell("send", s.call.send(pair.first, "x", 1, 0));
       s.tell("send again", s.call.send(pair.first, "x", 1, 0));
       s.note("signals", pipes.count());
       s.join();
     }},
    {"AMebibyteInEachDirection",
     [](Stage& s) {
       for (const int family : {AF_INET, AF_UNIX}) {
         FdPair pair = connected(family);
         std::vector<char> data(kMiB), back(kMiB);
         std::iota(data.begin(), data.end(), 0);
         s.beside([&] {
           std::vector<char> all(kMiB);
           s.tell_aside("recv MSG_WAITALL", s.call.recv(pair.second, all.data(), all.size(), MSG_WAITALL));
           s.tell_aside("send", s.call.send(pair.second, all.data(), all.size(), 0));
         });
         s.tell("send", s.call.send(pair.first, data.data(), data.size(), 0));
         s.tell("recv MSG_WAITALL", s.call.recv(pair.first, back.data(), back.size(), MSG_WAITALL));
         s.join();
         s.note("same", data == back);
       }
       s.join();
     }},
    {"VectorsOfAMebibyte",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       std::vector<char> data(kMiB), back(kMiB);
       std::iota(data.begin(), data.end(), 0);
       const auto vectors = [](std::vector<char>& memory) {
         std::vector<iovec> result;
         size_t at = 0;
         for (size_t step = 1; at < memory.size(); step = step * 3 + 1) {
           const size_t length = std::min(step, memory.size() - at);
           result.push_back({memory.data() + at, length});
           result.push_back({nullptr, 0});
           at += length;
         }
         return result;
       };
       auto out = vectors(data), in = vectors(back);
       s.beside([&] {
         msghdr message{};
         message.msg_iov = in.data();
         message.msg_iovlen = in.size();
         s.tell_aside("recvmsg", s.call.recvmsg(pair.second, &message, MSG_WAITALL));
       });
       msghdr message{};
       message.msg_iov = out.data();
       message.msg_iovlen = out.size();
       s.tell("sendmsg", s.call.sendmsg(pair.first, &message, 0));
       s.join();
       s.note("same", data == back);
       s.join();
     }},
    {"WaitAllEndsWithTheStream",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char buffer[16];
       s.call.send(pair.second, "abc", 3, 0);
       s.beside([&] {
         s.call.send(pair.second, "de", 2, 0);
         shutdown(pair.second, SHUT_WR);
       });
       s.tell("recv MSG_WAITALL", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       s.join();
     }},
    {"WaitAllLeavesTheErrorToTheNextCall",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char buffer[16];
       s.call.send(pair.second, "abc", 3, 0);
       s.beside([&] { reset(pair.second); });
       s.tell("recv MSG_WAITALL", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.join();
     }},
    {"WaitAllOnDatagrams",
     [](Stage& s) {
       FdPair pair = socket_pair(SOCK_DGRAM);
       char buffer[16];
       s.beside([&] { s.call.send(pair.second, "abc", 3, 0); });
       s.tell("recv MSG_WAITALL", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       s.join();
     }},
    {"PeekingAtAll",
     [](Stage& s) {
       for (const int family : {AF_INET, AF_UNIX}) {
         FdPair pair = connected(family);
         char buffer[5];
         s.call.send(pair.second, "abc", 3, 0);
         s.tell("MSG_PEEK", s.call.recv(pair.first, buffer, sizeof buffer, MSG_PEEK));
         s.beside([&] { s.call.send(pair.second, "de", 2, 0); });
         if (family == AF_INET) {
           s.tell("MSG_PEEK | MSG_WAITALL",
                  s.call.recv(pair.first, buffer, sizeof buffer, MSG_PEEK | MSG_WAITALL));
           s.note("peeked", std::string(buffer, 5));
         }
         s.join();
         s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       }
       s.join();
     }},
    {"PeekingAtAllOfAnEndedStream",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char buffer[5];
       s.call.send(pair.second, "abc", 3, 0);
       s.beside([&] { shutdown(pair.second, SHUT_WR); });
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, MSG_PEEK | MSG_WAITALL));
       s.join();
     }},
    {"Datagrams",
     [](Stage& s) {
       FdPair pair = socket_pair(SOCK_DGRAM);
       char buffer[8] = {};
       s.beside([&] {
         s.call.send(pair.second, "", 0, 0);
         s.call.send(pair.second, "0123456789", 10, 0);
         s.call.send(pair.second, "0123456789", 10, 0);
       });
       s.tell("empty", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("cut", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("MSG_TRUNC", s.call.recv(pair.first, buffer, sizeof buffer, MSG_TRUNC));
       s.join();
     }},
    {"DatagramsToAFullQueue",
     [](Stage& s) {
       for (const bool with_address : {false, true}) {
         Listener receiver(AF_UNIX, SOCK_DGRAM);
         Fd sender(socket(AF_UNIX, SOCK_DGRAM, 0));
         if (!with_address) s.call.connect(sender.fd, receiver.address(), receiver.length);
         constexpr int kCount = 2000;
         s.beside([&] {
           char buffer[8];
           for (int i = 0; i < kCount; ++i) s.call.recv(receiver.fd, buffer, sizeof buffer, 0);
         });
         int sent = 0;
         for (int i = 0; i < kCount; ++i)
           sent += with_address
                       ? s.call.sendto(sender.fd, "x", 1, 0, receiver.address(), receiver.length) == 1
                       : s.call.send(sender.fd, "x", 1, 0) == 1;
         s.note("sent", sent);
         s.join();
       }
       s.join();
     }},
    {"UdpWithAddresses",
     [](Stage& s) {
       Listener receiver(AF_INET, SOCK_DGRAM);
       Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
       s.beside([&] {
         s.tell_aside("sendto", s.call.sendto(sender.fd, "hello", 5, 0, receiver.address(), receiver.length));
       });
       char buffer[8];
       sockaddr_in from{};
       socklen_t length = sizeof from;
       auto* address = reinterpret_cast<sockaddr*>(&from);
       s.tell("recvfrom", s.call.recvfrom(receiver.fd, buffer, sizeof buffer, 0, address, &length));
       s.join();
       s.note("length", length);
       s.note("family", from.sin_family);
       s.join();
     }},
    {"SequencedPackets",
     [](Stage& s) {
       FdPair pair = socket_pair(SOCK_SEQPACKET);
       char buffer[8];
       s.beside([&] {
         s.call.send(pair.second, "abc", 3, 0);
         s.call.send(pair.second, "de", 2, MSG_EOR);
         shutdown(pair.second, SHUT_RDWR);
       });
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.join();
     }},
    {"Netlink",
     [](Stage& s) {
       Fd socket(::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
       struct {
         nlmsghdr header{sizeof(nlmsghdr) + sizeof(rtgenmsg), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0};
         rtgenmsg body{AF_UNSPEC};
       } request;
       s.tell("send", s.call.send(socket.fd, &request, request.header.nlmsg_len, 0));
       std::vector<char> answer(65536);
       s.note("answer", s.call.recv(socket.fd, answer.data(), answer.size(), 0) > 0);
     }},
    {"ErrorQueueAndUrgentData",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       char byte;
       msghdr message{};
       s.tell("MSG_ERRQUEUE", s.call.recvmsg(pair.first, &message, MSG_ERRQUEUE));
       s.tell("MSG_OOB", s.call.recv(pair.first, &byte, 1, MSG_OOB));
       s.tell("send MSG_OOB", s.call.send(pair.second, "!", 1, MSG_OOB));
       s.tell("MSG_OOB", s.call.recv(pair.first, &byte, 1, MSG_OOB));
     }},
    {"Descriptors",
     [](Stage& s) {
       FdPair pair = socket_pair();
       s.beside([&] {
         send_descriptor(s.call, pair.second, "ab", pair.second);
         s.call.send(pair.second, "cd", 2, 0);
       });
       // The kernel glues nothing to a message with descriptors.
       int received = -1;
       s.tell("recvmsg", receive_descriptor(s.call, pair.first, 4, MSG_WAITALL, received));
       s.note("got one", received >= 0);
       ::close(received);
       s.tell("recvmsg", receive_descriptor(s.call, pair.first, 2, MSG_WAITALL, received));
       s.note("got one", received >= 0);
       s.join();
     }},
    {"ManyMessages",
     [](Stage& s) {
       FdPair pair = socket_pair(SOCK_DGRAM);
       Messages out(3), in(5);
       s.tell("sendmmsg", s.call.sendmmsg(pair.second, out.all(), 3, 0));
       s.tell("MSG_WAITFORONE", s.call.recvmmsg(pair.first, in.all(), 5, MSG_WAITFORONE, nullptr));
       s.beside([&] {
         s.call.sendmmsg(pair.second, out.all(), 3, 0);
         s.call.sendmmsg(pair.second, out.all(), 3, 0);
       });
       s.tell("recvmmsg", s.call.recvmmsg(pair.first, in.all(), 5, 0, nullptr));
       s.join();
       timespec wrong{0, -1}, none{0, 0};
       s.tell("wrong time", s.call.recvmmsg(pair.first, in.all(), 5, 0, &wrong));
       s.tell("no time", s.call.recvmmsg(pair.first, in.all(), 5, 0, &none));
       s.tell("MSG_DONTWAIT", s.call.recvmmsg(pair.first, in.all(), 5, MSG_DONTWAIT, nullptr));
       constexpr unsigned kMany = 600;
       Messages many(kMany), back(kMany);
       s.beside(
           [&] { s.tell_aside("recvmmsg", s.call.recvmmsg(pair.first, back.all(), kMany, 0, nullptr)); });
       s.tell("sendmmsg", s.call.sendmmsg(pair.second, many.all(), kMany, 0));
       s.join();
     }},
    {"ManyMessagesOnAStream",
     [](Stage& s) {
       FdPair pair = connected(AF_UNIX);
       Messages out(8, kMiB / 4);
       s.beside([&] { s.tell_aside("drained", static_cast<ssize_t>(drain(s.call, pair.first, 2 * kMiB))); });
       s.tell("sendmmsg", s.call.sendmmsg(pair.second, out.all(), 8, 0));
       s.join();
       for (unsigned i = 0; i < 8; ++i) s.note("length", out.all()[i].msg_len);
       s.join();
     }},
    {"UnixConnectToAFullBacklog",
     [](Stage& s) {
       Listener listener(AF_UNIX, SOCK_STREAM, 0);
       std::vector<Fd> clients;
       for (int i = 0; i < 6; ++i) clients.emplace_back(socket(AF_UNIX, SOCK_STREAM, 0));
       s.beside([&] {
         for (int i = 0; i < 6; ++i) ::close(s.call.accept(listener.fd, nullptr, nullptr));
       });
       for (Fd& client : clients)
         s.tell("connect", s.call.connect(client.fd, listener.address(), listener.length));
       s.join();
     }},
    {"TimeLimits",
     [](Stage& s) {
       const timeval limit{0, 30'000};
       FdPair pair = connected(AF_UNIX);
       s.tell("setsockopt", s.call.setsockopt(pair.first, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
       s.tell("setsockopt", s.call.setsockopt(pair.first, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
       char buffer[8];
       Stopwatch watch;
       s.tell("recv", s.call.recv(pair.first, buffer, sizeof buffer, 0));
       s.note("in time", watch.at_least(30) && !watch.at_least(2000));
       s.call.send(pair.second, "abc", 3, 0);
       s.tell("recv MSG_WAITALL", s.call.recv(pair.first, buffer, sizeof buffer, MSG_WAITALL));
       std::vector<char> much(16 * kMiB);
       const ssize_t part = s.call.send(pair.first, much.data(), much.size(), 0);
       s.note("a part was sent", part > 0 && part < static_cast<ssize_t>(much.size()));
       watch = {};
       s.tell("send", s.call.send(pair.first, much.data(), much.size(), 0));
       s.note("in time", watch.at_least(30));
       Listener listener(AF_INET);
       s.call.setsockopt(listener.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
       watch = {};
       s.tell("accept", s.call.accept(listener.fd, nullptr, nullptr));
       s.note("in time", watch.at_least(30));
     }},
    {"TimeLimitOfConnect",
     [](Stage& s) {
       const timeval limit{0, 50'000};
       for (const int family : {AF_INET, AF_UNIX}) {
         Listener listener(family, SOCK_STREAM, 0);
         std::vector<Fd> clients;
         // Fills the backlog: then no answer comes.
         for (int i = 0; i < 3; ++i) {
           clients.emplace_back(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
           ::connect(clients.back().fd, listener.address(), listener.length);
         }
         Fd late(socket(family, SOCK_STREAM, 0));
         s.call.setsockopt(late.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
         Stopwatch watch;
         s.tell("connect", s.call.connect(late.fd, listener.address(), listener.length));
         s.note("in time", watch.at_least(50) && !watch.at_least(900));
         s.tell("connect again", s.call.connect(late.fd, listener.address(), listener.length));
       }
     }},
};
WEFT_SAME_AS_NATIVELY(Sockets, kScenarios);

}  // namespace
}  // namespace weft::engine::test
