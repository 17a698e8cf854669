// A TCP proxy that breaks connections where a test wants it.
#ifndef DESCANT_TESTS_SERVER_CUTTING_PROXY_H_
#define DESCANT_TESTS_SERVER_CUTTING_PROXY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/mutex.h"

namespace descant {

// Thread-safe. Loopback only.
class CuttingProxy {
 public:
  // `target`: 127.0.0.1:PORT.
  explicit CuttingProxy(const std::string& target);
  ~CuttingProxy();
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;

  const std::string& address() const { return address_; }

  // Breaks the connection once `bytes` more have come from clients; later
  // ones live.
  void CutAfter(int64_t bytes) { budget_ = bytes; }
  int cuts() const { return cuts_; }

 private:
  struct Link {
    int client = -1;
    int server = -1;
    std::atomic<bool> broken{false};
  };

  void Accept();
  void Pump(Link* link, bool from_client);
  void Break(Link* link);

  int port_ = 0;
  int listener_ = -1;
  std::string address_;
  std::atomic<int64_t> budget_{INT64_MAX};
  std::atomic<int> cuts_{0};
  Mutex mutex_;
  std::vector<std::unique_ptr<Link>> links_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> pumps_ ABSL_GUARDED_BY(mutex_);
  std::thread acceptor_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_CUTTING_PROXY_H_
