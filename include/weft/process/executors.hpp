// Executors by what they wait for.
#pragma once

#include "weft/process/executor.hpp"

namespace weft::process {

/// Ready when something accepts TCP connections: see Readiness::tcp(). All these are Executors in every other
/// respect.
class TcpExecutor : public Executor {
 public:
  TcpExecutor(Command command, std::string host, int port, Options options = {})
      : Executor(std::move(command), std::move(options), Readiness::tcp(std::move(host), port)) {}
};

/// See Readiness::unix_socket().
class UnixSocketExecutor : public Executor {
 public:
  UnixSocketExecutor(Command command, std::string path, Options options = {})
      : Executor(std::move(command), std::move(options), Readiness::unix_socket(std::move(path))) {}
};

/// See Readiness::http().
class HttpExecutor : public Executor {
 public:
  HttpExecutor(Command command, std::string url, HttpOptions request = {}, Options options = {})
      : Executor(std::move(command), std::move(options),
                 Readiness::http(std::move(url), std::move(request))) {}
};

/// See Readiness::output().
class OutputExecutor : public Executor {
 public:
  OutputExecutor(Command command, std::string regex, Options options = {})
      : Executor(std::move(command), std::move(options), Readiness::output(std::move(regex))) {}
};

/// Ready when there is its file with its process id: see Readiness::file().
class PidExecutor : public Executor {
 public:
  PidExecutor(Command command, std::string path, Options options = {})
      : Executor(std::move(command), std::move(options), Readiness::file(std::move(path))) {}
};

}  // namespace weft::process
