// Ctrl-C as something to wait for.
#pragma once

#include <signal.h>
#include <sys/signalfd.h>

#include <weft/weft.hpp>

/// A descriptor that can be read from once Ctrl-C was pressed, which from now on does nothing else. Call it
/// before the runtime, or any thread, starts.
inline weft::OwnedDescriptor interrupt_descriptor() {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigprocmask(SIG_BLOCK, &interrupt, nullptr);
  weft::OwnedDescriptor descriptor(signalfd(-1, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor) throw std::system_error(errno, std::system_category(), "signalfd");
  return descriptor;
}
