// Every result, errno and output of the polling calls, compared with libc's own in the same run.
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "support/sockets.hpp"

namespace weft::engine::test {
namespace {

std::string events_of(const std::vector<pollfd>& all) {
  std::ostringstream text;
  for (const pollfd& one : all) text << one.revents << " ";
  return text.str();
}

std::string members_of(const fd_set& set, std::initializer_list<int> of) {
  std::string text;
  for (const int fd : of) text += FD_ISSET(fd, &set) ? "1" : "0";
  return text;
}

fd_set set_of(std::initializer_list<int> members) {
  fd_set set;
  FD_ZERO(&set);
  for (const int fd : members) FD_SET(fd, &set);
  return set;
}

struct EpollSet : Fd {
  EpollSet() : Fd(epoll_create1(EPOLL_CLOEXEC)) {}
  void add(int descriptor, uint32_t events) const {
    epoll_event event{events, {.fd = descriptor}};
    EXPECT_EQ(epoll_ctl(fd, EPOLL_CTL_ADD, descriptor, &event), 0);
  }
};

const NamedScenario kScenarios[] = {
    {"PollWaits",
     [](Stage& s) {
       FdPair one = socket_pair(), two = pipe_pair();
       std::vector<pollfd> all{
           {one.first, POLLIN, 0}, {-1, POLLIN, 77}, {two.first, POLLIN, 0}, {one.first, POLLOUT, 0}};
       s.tell("ready at once", s.call.poll(all.data(), 4, 1000));
       s.note("events", events_of(all));
       s.beside([&] { s.call.send(one.second, "x", 1, 0); });
       s.tell("one", s.call.poll(all.data(), 3, -1));
       s.note("events", events_of(all));
       s.join();
       s.beside([&] { EXPECT_EQ(::write(two.second, "x", 1), 1); });
       s.tell("another", s.call.poll(&all[2], 1, 5000));
       s.note("events", events_of(all));
       s.join();
       s.tell("both", s.call.ppoll(all.data(), 3, nullptr, nullptr));
       s.note("events", events_of(all));
     }},
    {"PollTellsOfEnds",
     [](Stage& s) {
       FdPair one = connected(AF_INET), two = pipe_pair();
       std::vector<pollfd> all{{one.first, POLLIN | POLLRDHUP, 0}, {two.first, 0, 0}};
       s.beside([&] { shutdown(one.second, SHUT_WR); });
       s.tell("peer shut down", s.call.poll(all.data(), 2, 5000));
       s.note("events", events_of(all));
       s.join();
       s.beside([&] {
         ::close(two.second);
         two.second = -1;
       });
       s.tell("pipe closed", s.call.poll(&all[1], 1, 5000));
       s.note("events", events_of(all));
       s.join();
       FdPair three = connected(AF_INET);
       all[0].fd = three.first;
       s.beside([&] { reset(three.second); });
       s.tell("reset", s.call.poll(all.data(), 1, 5000));
       s.note("events", events_of(all));
       s.join();
     }},
    {"PollOfWhatCannotWait",
     [](Stage& s) {
       TemporaryFile file(10);
       pollfd* volatile nowhere = reinterpret_cast<pollfd*>(8);
       std::vector<pollfd> all{{file.fd, POLLIN | POLLOUT, 0}, {9999, POLLIN, 0}};
       s.tell("file", s.call.poll(all.data(), 1, -1));
       s.tell("closed", s.call.poll(all.data(), 2, -1));
       s.note("events", events_of(all));
#ifndef __SANITIZE_THREAD__  // which looks at all of them first
       rlimit limit{};
       getrlimit(RLIMIT_NOFILE, &limit);
       if (limit.rlim_cur < 1'000'000'000)
         s.tell("too many", s.call.poll(all.data(), limit.rlim_cur + 1, 10));
#endif
       s.tell("bad memory", s.call.poll(nowhere, 1, 10));
     }},
    {"PollTimesOut",
     [](Stage& s) {
       FdPair pair = socket_pair();
       std::vector<pollfd> all{{pair.first, POLLIN, 99}};
       for (const int milliseconds : {0, 1, 20}) {
         Stopwatch watch;
         s.tell("poll", s.call.poll(all.data(), 1, milliseconds));
         s.note("not early", watch.at_least(milliseconds));
         watch = {};
         const timespec time{0, milliseconds * kMillisecond};
         s.tell("ppoll", s.call.ppoll(all.data(), 1, &time, nullptr));
         s.note("not early", watch.at_least(milliseconds));
         watch = {};
         s.tell("nothing", s.call.poll(nullptr, 0, milliseconds));
         s.note("not early", watch.at_least(milliseconds));
       }
       s.note("events", events_of(all));
       for (const timespec wrong : {timespec{-1, 0}, timespec{0, -1}, timespec{0, kSecond}})
         s.tell("wrong time", s.call.ppoll(all.data(), 1, &wrong, nullptr));
     }},
    {"PollOfManyDescriptors",
     [](Stage& s) {
       std::vector<FdPair> pairs;
       std::vector<pollfd> all;
       for (int i = 0; i < 300; ++i) {
         pairs.push_back(socket_pair());
         all.push_back({pairs.back().first, POLLIN, 0});
       }
       s.beside([&] { s.call.send(pairs[250].second, "x", 1, 0); });
       s.tell("poll", s.call.poll(all.data(), all.size(), 5000));
       s.note("events", events_of(all));
       s.join();
     }},
    {"SelectWaits",
     [](Stage& s) {
       FdPair one = socket_pair(), two = socket_pair();
       const auto members = {one.first, one.second, two.first, two.second};
       const int count = std::max(members) + 1;
       fd_set reading = set_of({one.first, two.first}), writing = set_of({one.second}),
              failing = set_of({two.second});
       timeval time{5, 0};
       s.tell("writable", s.call.select(count, &reading, &writing, &failing, &time));
       s.note("sets",
              members_of(reading, members) + members_of(writing, members) + members_of(failing, members));
       reading = set_of({one.first, two.first});
       s.beside([&] { s.call.send(two.second, "x", 1, 0); });
       s.tell("readable", s.call.select(count, &reading, nullptr, &failing, &time));
       s.note("set", members_of(reading, members));
       s.note("time is left", time.tv_sec < 5 && time.tv_usec > 0);
       s.join();
       const timespec limit{5, 0};
       s.tell("pselect", s.call.pselect(count, &reading, nullptr, nullptr, &limit, nullptr));
       s.note("set", members_of(reading, members));
     }},
    {"SelectOfPriorityData",
     [](Stage& s) {
       FdPair pair = connected(AF_INET);
       fd_set failing = set_of({pair.first});
       s.beside([&] { s.call.send(pair.second, "!", 1, MSG_OOB); });
       s.tell("select", s.call.select(pair.first + 1, nullptr, nullptr, &failing, nullptr));
       s.note("set", members_of(failing, {pair.first}));
       s.join();
     }},
    {"SelectIgnoresAnEndThatWasNotAskedFor",
     [](Stage& s) {
       FdPair pair = socket_pair(), other = socket_pair();
       ::close(std::exchange(pair.second, -1));
       fd_set failing = set_of({pair.first}), reading = set_of({other.first});
       timeval time{0, 50'000};
       Stopwatch watch;
       s.tell("hung up", s.call.select(1024, nullptr, nullptr, &failing, &time));
       s.note("not early", watch.at_least(50));
       failing = set_of({pair.first});
       s.beside([&] { s.call.send(other.second, "x", 1, 0); });
       s.tell("other", s.call.select(1024, &reading, nullptr, &failing, nullptr));
       s.join();
     }},
    {"SelectTimesOut",
     [](Stage& s) {
       FdPair pair = socket_pair();
       for (const int milliseconds : {0, 1, 20}) {
         fd_set reading = set_of({pair.first});
         timeval time{0, milliseconds * 1000};
         Stopwatch watch;
         s.tell("select", s.call.select(pair.first + 1, &reading, nullptr, nullptr, &time));
         s.note("not early", watch.at_least(milliseconds));
         s.note("set", members_of(reading, {pair.first}));
         s.note("left", time.tv_sec * 1'000'000 + time.tv_usec);
         timespec limit{0, milliseconds * kMillisecond};
         watch = {};
         s.tell("pselect", s.call.pselect(0, nullptr, nullptr, nullptr, &limit, nullptr));
         s.note("not early", watch.at_least(milliseconds));
         s.note("unchanged", limit.tv_nsec == milliseconds * kMillisecond);
       }
       timeval much{0, 1'020'000}, none{0, 0};
       Stopwatch watch;
       s.tell("more than a million microseconds", s.call.select(0, nullptr, nullptr, nullptr, &much));
       s.note("not early", watch.at_least(1020));
       s.tell("no time", s.call.select(0, nullptr, nullptr, nullptr, &none));
     }},
    {"SelectRefuses",
     [](Stage& s) {
       fd_set closed = set_of({900});
       timeval time{0, 1000};
       for (timeval wrong : {timeval{-1, 0}, timeval{0, -1}})
         s.tell("wrong time", s.call.select(0, nullptr, nullptr, nullptr, &wrong));
       for (const timespec wrong : {timespec{-1, 0}, timespec{0, -1}, timespec{0, kSecond}})
         s.tell("wrong time", s.call.pselect(0, nullptr, nullptr, nullptr, &wrong, nullptr));
       s.tell("negative", s.call.select(-1, nullptr, nullptr, nullptr, &time));
       s.tell("closed", s.call.select(1024, &closed, nullptr, nullptr, nullptr));
       s.note("set unchanged", FD_ISSET(900, &closed));
       // As large as the process's table of descriptors may be here, but not as large as the caller says.
       std::vector<uint64_t> none(16384 / 64);
       auto* set = reinterpret_cast<fd_set*>(none.data());
       s.tell("more than the table has", s.call.select(1 << 24, set, set, set, &time));
     }},
    {"SelectBeyondFdSetSize",
     [](Stage& s) {
       FdPair pair = socket_pair();
       constexpr int kHigh = 3000;
       const int high = fcntl(pair.first, F_DUPFD_CLOEXEC, kHigh);
       s.note("high enough", high >= kHigh);
       std::vector<uint64_t> bits(kHigh / 64 + 64);
       const auto set_high = [&] { bits[static_cast<size_t>(high) / 64] = uint64_t{1} << (high % 64); };
       set_high();
       s.beside([&] { s.call.send(pair.second, "x", 1, 0); });
       s.tell("select",
              s.call.select(high + 1, reinterpret_cast<fd_set*>(bits.data()), nullptr, nullptr, nullptr));
       s.note("set", bits[static_cast<size_t>(high) / 64] != 0);
       s.join();
       Poller::closing(high);
       ::close(high);
     }},
    {"EpollWaits",
     [](Stage& s) {
       FdPair one = socket_pair(), two = socket_pair();
       EpollSet set;
       set.add(one.first, EPOLLIN);
       set.add(two.first, EPOLLIN | EPOLLET);
       epoll_event events[4]{};
       s.beside([&] { s.call.send(one.second, "x", 1, 0); });
       s.tell("one", s.call.epoll_wait(set.fd, events, 4, -1));
       s.note("event", events[0].events);
       s.note("data", events[0].data.fd == one.first);
       s.join();
       char byte;
       s.call.recv(one.first, &byte, 1, 0);
       s.beside([&] { s.call.send(two.second, "x", 1, 0); });
       s.tell("two", s.call.epoll_pwait(set.fd, events, 4, 5000, nullptr));
       s.note("event", events[0].events);
       s.join();
       s.tell("once only", s.call.epoll_wait(set.fd, events, 4, 10));
       const timespec time{0, 10 * kMillisecond};
       Stopwatch watch;
       s.tell("epoll_pwait2", s.call.epoll_pwait2(set.fd, events, 4, &time, nullptr));
       s.note("not early", watch.at_least(10));
     }},
    {"NestedEpoll",
     [](Stage& s) {
       FdPair pair = socket_pair();
       EpollSet inner, outer;
       inner.add(pair.first, EPOLLIN);
       outer.add(inner.fd, EPOLLIN);
       epoll_event events[4]{};
       s.beside([&] { s.call.send(pair.second, "x", 1, 0); });
       s.tell("outer", s.call.epoll_wait(outer.fd, events, 4, 5000));
       s.tell("inner", s.call.epoll_wait(inner.fd, events, 4, 5000));
       s.join();
       pollfd one{outer.fd, POLLIN, 0};
       s.tell("poll", s.call.poll(&one, 1, -1));
     }},
    {"EpollLearnsOfNewDescriptors",
     [](Stage& s) {
       FdPair pair = socket_pair();
       EpollSet set;
       epoll_event events[4]{};
       s.call.send(pair.second, "x", 1, 0);
       s.beside([&] { set.add(pair.first, EPOLLIN); });
       s.tell("epoll_wait", s.call.epoll_wait(set.fd, events, 4, 5000));
       s.join();
     }},
    {"EpollRefuses",
     [](Stage& s) {
       EpollSet set;
       FdPair pair = socket_pair();
       epoll_event events[4]{};
       const timespec wrong{0, -1};
       volatile int negative = -1;
       s.tell("closed", s.call.epoll_wait(9999, events, 4, -1));
       s.tell("no set", s.call.epoll_wait(pair.first, events, 4, -1));
       s.tell("no room", s.call.epoll_wait(set.fd, events, 0, -1));
       s.tell("epoll_pwait", s.call.epoll_pwait(set.fd, events, negative, -1, nullptr));
       s.tell("wrong time", s.call.epoll_pwait2(set.fd, events, 4, &wrong, nullptr));
       s.tell("no time", s.call.epoll_pwait(set.fd, events, 4, 0, nullptr));
     }},
    {"PendingSignalsAreLetThrough",
     [](Stage& s) {
       SignalCounter signals(SIGUSR1);
       sigset_t blocked, former, open;
       sigemptyset(&blocked);
       sigaddset(&blocked, SIGUSR1);
       pthread_sigmask(SIG_BLOCK, &blocked, &former);
       open = former;
       sigdelset(&open, SIGUSR1);
       FdPair ready = socket_pair(), empty = socket_pair();
       s.call.send(ready.second, "x", 1, 0);
       EpollSet set;
       epoll_event events[4]{};
       pollfd one{ready.first, POLLIN, 0};
       pthread_kill(pthread_self(), SIGUSR1);
       s.tell("ready", s.call.ppoll(&one, 1, nullptr, &open));
       s.note("handled", signals.count());
       one.fd = empty.first;
       s.tell("ppoll", s.call.ppoll(&one, 1, nullptr, &open));
       s.note("handled", signals.count());
       pthread_kill(pthread_self(), SIGUSR1);
       s.tell("pselect", s.call.pselect(0, nullptr, nullptr, nullptr, nullptr, &open));
       s.note("handled", signals.count());
       pthread_kill(pthread_self(), SIGUSR1);
       s.tell("epoll_pwait", s.call.epoll_pwait(set.fd, events, 4, -1, &open));
       s.note("handled", signals.count());
       pthread_kill(pthread_self(), SIGUSR1);
       const timespec time{5, 0};
       s.tell("epoll_pwait2", s.call.epoll_pwait2(set.fd, events, 4, &time, &open));
       s.note("handled", signals.count());
       pthread_sigmask(SIG_SETMASK, &former, nullptr);
     }},
};
WEFT_SAME_AS_NATIVELY(Polling, kScenarios);

}  // namespace
}  // namespace weft::engine::test
