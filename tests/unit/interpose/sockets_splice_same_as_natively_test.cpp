// Every result, errno and offset of sendfile, splice, tee and vmsplice, compared with libc's own in the same
// run.
#include "support/sockets.hpp"

namespace weft::engine::test {
namespace {

constexpr size_t kMiB = 1024 * 1024;

const NamedScenario kScenarios[] = {
    {"SendFile",
     [](Stage& s) {
       TemporaryFile file(3 * kMiB + 17);
       for (const int family : {AF_INET, AF_UNIX}) {
         FdPair pair = connected(family);
         s.beside([&] {
           s.tell_aside("received",
                        static_cast<ssize_t>(drain(s.call, pair.second, 3 * kMiB + 17 + 1000 + 500)));
         });
         lseek(file.fd, 0, SEEK_SET);
         s.tell("whole", s.call.sendfile(pair.first, file.fd, nullptr, 1 << 30));
         s.note("position", lseek(file.fd, 0, SEEK_CUR));
         s.tell("at the end", s.call.sendfile(pair.first, file.fd, nullptr, 1000));
         off_t offset = 5;
         s.tell("from an offset", s.call.sendfile(pair.first, file.fd, &offset, 1000));
         s.note("offset", offset);
         s.note("position", lseek(file.fd, 0, SEEK_CUR));
         lseek(file.fd, 100, SEEK_SET);
         s.tell("from a position", s.call.sendfile(pair.first, file.fd, nullptr, 500));
         s.note("position", lseek(file.fd, 0, SEEK_CUR));
         s.tell("nothing", s.call.sendfile(pair.first, file.fd, nullptr, 0));
         offset = -1;
         s.tell("wrong offset", s.call.sendfile(pair.first, file.fd, &offset, 10));
         s.tell("from a socket", s.call.sendfile(pair.first, pair.first, nullptr, 10));
         s.join();
         shutdown(pair.first, SHUT_WR);
         SignalCounter pipes(SIGPIPE);
         offset = 0;
         s.tell("shut down", s.call.sendfile(pair.first, file.fd, &offset, 10));
         s.note("signals", pipes.count());
       }
       TemporaryFile copy(0);
       off_t start = 0;
       s.tell("to a file", s.call.sendfile(copy.fd, file.fd, &start, 1 << 30));
       Fd unconnected(socket(AF_INET, SOCK_STREAM, 0));
       start = 0;
       SignalCounter pipes(SIGPIPE);
       s.tell("unconnected", s.call.sendfile(unconnected.fd, file.fd, &start, 10));
       s.join();
     }},
    {"SendFileToAPipe",
     [](Stage& s) {
       TemporaryFile file(kMiB);
       FdPair pipe = pipe_pair();
       s.beside([&] {
         std::vector<char> buffer(kMiB);
         size_t total = 0;
         while (total < kMiB) {
           pollfd ready{pipe.first, POLLIN, 0};
           s.call.poll(&ready, 1, -1);
           total += static_cast<size_t>(::read(pipe.first, buffer.data(), buffer.size()));
         }
         s.tell_aside("received", static_cast<ssize_t>(total));
       });
       off_t offset = 0;
       while (offset < static_cast<off_t>(kMiB) && s.call.sendfile(pipe.second, file.fd, &offset, kMiB) > 0)
         continue;
       s.note("offset", offset);
       s.join();
     }},
    {"Splice",
     [](Stage& s) {
       for (const int family : {AF_INET, AF_UNIX}) {
         FdPair pair = connected(family), pipe = pipe_pair(), other = pipe_pair();
         s.beside([&] { s.call.send(pair.second, "hello", 5, 0); });
         s.tell("from a socket", s.call.splice(pair.first, nullptr, pipe.second, nullptr, 100, 0));
         s.tell("tee", s.call.tee(pipe.first, other.second, 100, 0));
         s.beside([&] {
           s.tell_aside("to a socket", s.call.splice(pipe.first, nullptr, pair.first, nullptr, 100, 0));
         });
         char buffer[8];
         s.tell("recv", s.call.recv(pair.second, buffer, sizeof buffer, 0));
         s.tell("empty pipe",
                s.call.splice(pipe.first, nullptr, pair.first, nullptr, 100, SPLICE_F_NONBLOCK));
         s.join();
         s.beside([&] {
           iovec vector{buffer, 3};
           s.call.vmsplice(pipe.second, &vector, 1, 0);
         });
         s.tell("from a pipe", s.call.splice(pipe.first, nullptr, other.second, nullptr, 100, 0));
         s.join();
         shutdown(pair.second, SHUT_WR);
         s.tell("end of stream", s.call.splice(pair.first, nullptr, pipe.second, nullptr, 100, 0));
         ::close(pipe.second);
         pipe.second = -1;
         s.tell("end of pipe", s.call.splice(pipe.first, nullptr, pair.first, nullptr, 100, 0));
         s.tell("tee of an ended pipe", s.call.tee(pipe.first, other.second, 100, 0));
       }
       TemporaryFile file(100'000);
       FdPair pipe = pipe_pair();
       off64_t offset = 10;
       s.tell("from a file", s.call.splice(file.fd, &offset, pipe.second, nullptr, 1000, 0));
       s.note("offset", offset);
       offset = 0;
       s.tell("to a file", s.call.splice(pipe.first, nullptr, file.fd, &offset, 1000, 0));
       s.tell("no pipe", s.call.splice(file.fd, nullptr, file.fd, nullptr, 10, 0));
       s.join();
     }},
    {"SpliceAMebibyte",
     [](Stage& s) {
       FdPair from = connected(AF_INET), to = connected(AF_UNIX), pipe = pipe_pair();
       s.beside([&] {
         std::vector<char> data(kMiB);
         s.call.send(from.second, data.data(), data.size(), 0);
         shutdown(from.second, SHUT_WR);
       });
       s.beside([&] { s.tell_aside("received", static_cast<ssize_t>(drain(s.call, to.second, 2 * kMiB))); });
       s.beside([&] {
         ssize_t moved;
         while ((moved = s.call.splice(pipe.first, nullptr, to.first, nullptr, kMiB, 0)) > 0) continue;
         s.tell_aside("end", moved);
         shutdown(to.first, SHUT_WR);
       });
       ssize_t moved;
       while ((moved = s.call.splice(from.first, nullptr, pipe.second, nullptr, kMiB, 0)) > 0) continue;
       ::close(pipe.second);
       pipe.second = -1;
       s.join();
     }},
    {"SpliceToAFullSocket",
     [](Stage& s) {
       for (const int family : {AF_INET, AF_UNIX}) {
         FdPair to = connected(family), pipe = pipe_pair();
         const std::vector<char> data(60'000);
         s.note("written", ::write(pipe.second, data.data(), data.size()));
         size_t total = data.size();
         for (ssize_t sent; (sent = ::send(to.first, data.data(), data.size(), MSG_DONTWAIT)) > 0;)
           total += static_cast<size_t>(sent);
         s.beside([&] { s.tell_aside("received all", drain(s.call, to.second, total) == total ? 1 : 0); });
         s.tell("moved", s.call.splice(pipe.first, nullptr, to.first, nullptr, kMiB, 0));
         s.join();
         shutdown(to.first, SHUT_WR);
         s.note("written", ::write(pipe.second, "x", 1));
         SignalCounter pipes(SIGPIPE);
         s.tell("shut down", s.call.splice(pipe.first, nullptr, to.first, nullptr, kMiB, 0));
         s.note("signals", pipes.count());
         off64_t offset = 0;
         s.tell("an offset", s.call.splice(pipe.first, nullptr, to.first, &offset, 1, 0));
         s.tell("of the pipe", s.call.splice(pipe.first, &offset, to.first, nullptr, 1, 0));
         s.tell("wrong flags", s.call.splice(pipe.first, nullptr, to.first, nullptr, 1, 1 << 20));
       }
     }},
};
WEFT_SAME_AS_NATIVELY(Splicing, kScenarios);

}  // namespace
}  // namespace weft::engine::test
