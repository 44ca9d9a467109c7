// Unix sockets: paths, names, who is at the other end, and descriptors that are sent.
#include "weft/net/unix.hpp"

#include <sys/stat.h>

#include <filesystem>

#include "fixture.hpp"

namespace weft::net::test {
namespace {

namespace fs = std::filesystem;

class Unix : public NetTest {
 protected:
  Unix() {
    char pattern[] = "/tmp/weft-net-XXXXXX";
    directory_ = ::mkdtemp(pattern);
  }
  ~Unix() override { fs::remove_all(directory_); }
  Address at(const std::string& name) const { return Address::unix_path((directory_ / name).string()); }
  fs::path directory_;
};

std::string read_text(Stream& stream, size_t size) {
  std::string text(size, ' ');
  stream.read_exactly(text);
  return text;
}

TEST_F(Unix, ConnectsToAPathAndToAName) {
  for (const Address& address : {at("socket"), Address::unix_abstract("weft-net-" + directory_.string())}) {
    UnixListener listener(address);
    EXPECT_EQ(listener.local_address(), address);
    auto accepter = spawn_until_it_waits([&] {
      auto server = listener.accept();
      server.write_all("hello");
    });
    auto client = UnixStream::connect(address);
    EXPECT_EQ(read_text(client, 5), "hello");
    EXPECT_EQ(client.peer_address(), address);
    accepter.result();
  }
}

TEST_F(Unix, AnEmptyNameIsChosenByTheKernel) {
  UnixListener listener(Address::unix_abstract(""));
  EXPECT_TRUE(listener.local_address().is_abstract());
  auto client = UnixStream::connect(listener.local_address());
  EXPECT_TRUE(listener.accept());
}

TEST_F(Unix, ThePathGoesWithTheListener) {
  const Address address = at("socket");
  const std::string path(address.unix_name());
  {
    UnixListener listener(address);
    EXPECT_TRUE(fs::is_socket(path));
    UnixListener moved = std::move(listener);
    listener.close();
    EXPECT_TRUE(fs::is_socket(path));
  }
  EXPECT_FALSE(fs::exists(path));
  UnixListener kept(address, {.unlink_on_close = false});
  kept.close();
  EXPECT_TRUE(fs::is_socket(path));
  EXPECT_EQ(error_of([&] { UnixStream::connect(address); }), ECONNREFUSED);
  EXPECT_EQ(error_of([&] { UnixListener again(address); }), EADDRINUSE);
  EXPECT_TRUE(fs::is_socket(path));
  fs::remove(path);
  EXPECT_EQ(error_of([&] { UnixStream::connect(address); }), ENOENT);
  EXPECT_EQ(error_of([&] { UnixListener nowhere(at("no/such/directory")); }), ENOENT);
}

TEST_F(Unix, AnothersPathIsLeftAlone) {
  const Address address = at("socket");
  const std::string path(address.unix_name());
  UnixListener first(address);
  fs::rename(path, path + ".old");
  UnixListener second(address);
  first.close();
  EXPECT_TRUE(fs::is_socket(path));
}

TEST_F(Unix, PermissionsAreThoseAskedFor) {
  const UnixListener listener(at("socket"), {.permissions = 0622});
  struct stat status {};
  ASSERT_EQ(::stat(std::string(at("socket").unix_name()).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0622u);
}

TEST_F(Unix, AcceptersAreEndedByClose) {
  UnixListener listener(at("socket"));
  EXPECT_FALSE(listener.accept_for(1ms));
  auto accepter = spawn_until_it_waits([&] { return error_of([&] { listener.accept(); }); });
  auto cancelled = spawn_until_it_waits([&] { listener.accept(); });
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  listener.close();
  EXPECT_EQ(accepter.result(), EBADF);
}

TEST_F(Unix, AFullQueueIsWaitedFor) {
  UnixListener listener(at("socket"), {.backlog = 0});
  std::vector<UnixStream> queued;
  queued.push_back(UnixStream::connect(at("socket")));
  EXPECT_THROW(UnixStream::connect(at("socket"), 3ms), Timeout);
  auto cancelled = spawn_until_it_waits([&] { UnixStream::connect(at("socket")); });
  EXPECT_FALSE(cancelled.done());
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  auto patient = spawn_until_it_waits([&] { return UnixStream::connect(at("socket")).is_open(); });
  EXPECT_FALSE(patient.done());
  listener.accept();
  EXPECT_TRUE(patient.result());
}

TEST_F(Unix, TellsWhoThePeerIs) {
  auto [a, b] = UnixStream::pair();
  const PeerCredentials peer = a.peer_credentials();
  EXPECT_EQ(peer.process, ::getpid());
  EXPECT_EQ(peer.user, ::getuid());
  EXPECT_EQ(peer.group, ::getgid());
  EXPECT_EQ(a.peer_address().to_string(), "unix:");
}

TEST_F(Unix, DescriptorsAreSentWithBytes) {
  auto [a, b] = UnixStream::pair();
  auto pipe = engine::test::pipe_pair();
  auto receiver = spawn_until_it_waits([&, &b = b] {
    char buffer[16];
    auto received = b.receive_descriptors(buffer);
    EXPECT_EQ(received.size, 4u);
    EXPECT_FALSE(received.truncated);
    return std::make_shared<UnixStream::Received>(std::move(received));
  });
  const int fds[] = {pipe.first, pipe.second};
  EXPECT_EQ(a.send_descriptors("here", fds), 4u);
  const auto received = receiver.result();
  ASSERT_EQ(received->descriptors.size(), 2u);
  EXPECT_TRUE(::fcntl(received->descriptors[0].get(), F_GETFD) & FD_CLOEXEC);
  engine::test::put(received->descriptors[1].get());
  EXPECT_TRUE(wait_readable_for(pipe.first, 10s));
}

TEST_F(Unix, DescriptorsBeyondTheLimitAreClosed) {
  auto [a, b] = UnixStream::pair();
  const std::vector<int> fds(UnixStream::kMaxDescriptors, 0);
  char buffer[16];
  a.send_descriptors("x", fds);
  EXPECT_EQ(b.receive_descriptors(buffer).descriptors.size(), fds.size());
  a.send_descriptors("x", fds);
  const auto some = b.receive_descriptors(buffer, 3);
  EXPECT_EQ(some.descriptors.size(), 3u);
  EXPECT_TRUE(some.truncated);
  a.send_descriptors("x", fds);
  EXPECT_TRUE(b.receive_descriptors(buffer, 0).truncated);
  a.send_descriptors("plain", {});
  EXPECT_EQ(b.receive_descriptors(buffer).size, 5u);
  EXPECT_THROW(a.send_descriptors("x", std::vector<int>(254, 0)), std::invalid_argument);
  EXPECT_THROW(a.send_descriptors("", fds), std::invalid_argument);
  const int closed = 1'000'000;
  EXPECT_EQ(error_of([&, &a = a] { a.send_descriptors("x", {&closed, 1}); }), EBADF);
  a.close();
  EXPECT_EQ(b.receive_descriptors(buffer).size, 0u);
}

TEST_F(Unix, WaitingForDescriptorsEndsAsReadingDoes) {
  auto [a, b] = UnixStream::pair();
  char buffer[16];
  auto cancelled = spawn_until_it_waits([&, &b = b] { b.receive_descriptors(buffer); });
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  b.set_read_timeout(1ms);
  EXPECT_THROW(b.receive_descriptors(buffer), Timeout);
  fill(a);
  a.set_write_timeout(1ms);
  const int fd = 0;
  EXPECT_THROW(a.send_descriptors("x", {&fd, 1}), Timeout);
}

}  // namespace
}  // namespace weft::net::test
