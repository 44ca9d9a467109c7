// TlsClient: the client's end of TLS, over a stream.
#pragma once

#include <memory>
#include <string>

#include "process/limit.hpp"

namespace weft::process {

/// Whom a client of TLS trusts.
struct TlsOptions {
  bool verify = true;  ///< false: any certificate will do
  std::string
      ca_file;  ///< PEM: trusts these certificates, and none but these; empty: the system's, read once
};

/// One connection's TLS state; the bytes go through a LimitedStream, so that its waits are those of the
/// stream: it suspends, ends at the deadline, and is a cancellation point. For one fiber or thread at a time.
/// Errors of TLS are Failure; of the network, see net::Stream. Leaves nothing in OpenSSL's error queue, but
/// empties it.
///
/// REQUIRES: 64 KiB of stack.
class TlsClient {
 public:
  /// Reads files, on a thread of the pool while the fiber waits: no cancellation point. `host`: the name or
  /// address that the certificate must bear. std::invalid_argument: ca_file cannot be used.
  /// std::runtime_error: there is no OpenSSL. std::system_error with EMFILE, ENFILE or ENOMEM.
  TlsClient(const TlsOptions& options, const std::string& host);
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  void handshake(LimitedStream& stream);
  /// 0: the peer has closed its side.
  size_t read_some(LimitedStream& stream, MutableBytes buffer);
  void write_all(LimitedStream& stream, Bytes bytes);
  /// Tells the peer that no more comes. Never waits.
  void close(LimitedStream& stream) noexcept;

 private:
  struct State;

  std::string take_output();
  bool feed(LimitedStream& stream);
  template <typename Call>
  int perform(LimitedStream& stream, Call&& call);

  std::unique_ptr<State> state_;
};

}  // namespace weft::process
