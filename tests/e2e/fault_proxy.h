// A TCP proxy that breaks its connections the ways networks do.
#ifndef DESCANT_TESTS_E2E_FAULT_PROXY_H_
#define DESCANT_TESTS_E2E_FAULT_PROXY_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/mutex.h"

namespace descant::e2e {

enum class Fault {
  kReset,      // TCP RST to the server
  kHalfClose,  // FIN to the server; what it sends is still read
  kVanish,     // nothing goes either way any more, nothing is closed
};

// Thread-safe. Loopback only.
class FaultProxy {
 public:
  // `target`: 127.0.0.1:PORT.
  explicit FaultProxy(const std::string& target);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  const std::string& address() const { return address_; }

  // To all connections there are; later ones are whole.
  void Break(Fault fault);

 private:
  struct Link {
    int client = -1;
    int server = -1;
    std::atomic<bool> vanished{false};
    std::atomic<bool> half_closed{false};
  };

  void Accept();
  void Pump(Link* link, int from, int to);

  int port_ = 0;
  int listener_ = -1;
  std::string address_;
  std::atomic<bool> stopping_{false};
  Mutex mutex_;
  std::vector<std::unique_ptr<Link>> links_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> pumps_ ABSL_GUARDED_BY(mutex_);
  std::thread acceptor_;
};

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_FAULT_PROXY_H_
