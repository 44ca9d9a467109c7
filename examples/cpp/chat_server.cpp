// A chat by lines of text over TCP: the first line of a client is its name, what follows goes to everybody.
// Shows fibers in a TaskGroup, which Ctrl-C ends, and channels as mailboxes: a slow reader holds up nobody.
//
//   chat_server [PORT]           then: nc localhost 7000
#include <iostream>
#include <list>

#include "interrupt.hpp"

using Mailboxes = std::list<weft::Channel<std::string>>;

static void broadcast(Mailboxes& mailboxes, const std::string& line) {
  for (auto& mailbox : mailboxes) mailbox.try_send(std::string(line));  // who reads too slowly misses it
}

static void serve(weft::net::TcpStream stream, Mailboxes& mailboxes) {
  const auto mailbox = mailboxes.emplace(mailboxes.end(), 100);
  std::string name, line;
  weft::TaskGroup group;
  (void)group.spawn([&] {
    for (const std::string& text : *mailbox) stream.write_all(text);
  });
  (void)group.spawn([&] {
    stream.read_until(name, "\n", 100);
    name.resize(std::min(name.find_first_of("\r\n"), name.size()));
    broadcast(mailboxes, "* " + name + " is here\n");
    for (; stream.read_until(line, "\n", 1000); line.clear()) broadcast(mailboxes, name + ": " + line);
    group.cancel();
  });
  try {
    group.join();
  } catch (const std::system_error&) {  // it went without a word
  }
  mailboxes.erase(mailbox);
  broadcast(mailboxes, "* " + name + " has left\n");
}

int main(int argc, char** argv) try {
  const weft::OwnedDescriptor interrupted = interrupt_descriptor();
  const weft::Runtime runtime;
  const std::string address = std::string("127.0.0.1:") + (argc > 1 ? argv[1] : "7000");
  weft::net::TcpListener listener(weft::net::Address::parse(address));
  std::cout << "chat at " << listener.local_address().to_string() << std::endl;
  Mailboxes mailboxes;
  weft::TaskGroup group;
  (void)group.spawn([&] {
    for (;;)
      (void)group.spawn([&, stream = listener.accept()]() mutable { serve(std::move(stream), mailboxes); });
  });
  (void)group.spawn([&] {
    weft::wait_readable(interrupted.get());
    group.cancel();
  });
  group.join();
  std::cout << "stopped\n";
} catch (const std::exception& error) {
  std::cerr << "chat_server: " << error.what() << "\n";
  return 1;
}
