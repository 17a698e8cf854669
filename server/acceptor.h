// Takes a listener's connections, in gRPC's place.
#ifndef DESCANT_SERVER_ACCEPTOR_H_
#define DESCANT_SERVER_ACCEPTOR_H_

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_builder.h"
#include "server/flooding_addresses.h"

namespace descant {

// gRPC up to 1.53 stops to listen for good once accept() fails, as it does when
// a process has no file descriptors left (CVE-2023-4785), and knows no greatest
// number of connections. This does: one beyond it is closed at once, and an
// accept() that fails is tried again. Connections are watched for floods
// (connection_watch.h), and who flooded one is refused for a moment. One thread
// of its own.
class Acceptor {
 public:
  using Sink = grpc::experimental::ExternalConnectionAcceptor;

  Acceptor() = default;
  ~Acceptor() { Stop(); }
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // Binds HOST:PORT, every address that HOST has. FAILED_PRECONDITION when one
  // can't be bound. Clients may connect from now on, and wait.
  absl::Status Listen(absl::string_view address);

  // Gives connections to `sink`, of a server that runs, `max_connections` of
  // them at a time. REQUIRES: Listen was called.
  void Start(std::unique_ptr<Sink> sink, size_t max_connections);

  // Takes no more; connections live on. Before the server's Shutdown.
  void Stop();

  // Connections that were closed because there were too many, nothing left for
  // them, or a flood from their address. Thread-safe.
  uint64_t refused() const { return refused_; }

 private:
  void Run();
  void AcceptOne(int listener);
  void RefuseOne(int listener);
  bool HasRoom();
  void ForgetClosed();

  std::vector<int> listeners_;
  int stop_event_ = -1;
  // Given up for a moment where there is no other, so that who waits is told.
  int spare_ = -1;
  std::unique_ptr<Sink> sink_;
  size_t max_connections_ = 0;
  // Given to the sink. By file descriptor, the socket's inode: gRPC closes
  // them, and another file may have the number then.
  absl::flat_hash_map<int, ino_t> connections_;
  std::chrono::steady_clock::time_point next_sweep_;
  // Shared with connections, which outlive this.
  const std::shared_ptr<FloodingAddresses> floods_ =
      std::make_shared<FloodingAddresses>();
  std::atomic<uint64_t> refused_{0};
  std::thread thread_;
};

// How many of `wanted` connections the process has file descriptors for, beside
// `reserved` others; raises its own limit where it may.
size_t ConnectionsThatFit(size_t wanted, size_t reserved);

}  // namespace descant

#endif  // DESCANT_SERVER_ACCEPTOR_H_
