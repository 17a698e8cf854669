#include "server/connection_watch.h"

#include <dlfcn.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "server/http2_meter.h"

namespace descant {
namespace {

struct Watched {
  ino_t inode = 0;
  std::function<void()> on_flood;
  Http2Meter meter;  // of gRPC's reads, which come one after the other
};

class WatchedConnections {
 public:
  void Add(int fd, std::shared_ptr<Watched> watched) {
    const absl::MutexLock lock(&mutex_);
    by_fd_[fd] = std::move(watched);
  }
  // Null when it isn't, or its socket has been closed.
  std::shared_ptr<Watched> Find(int fd) {
    std::shared_ptr<Watched> watched;
    {
      const absl::ReaderMutexLock lock(&mutex_);
      const auto found = by_fd_.find(fd);
      if (found == by_fd_.end()) return nullptr;
      watched = found->second;
    }
    struct stat file {};
    if (fstat(fd, &file) == 0 && file.st_ino == watched->inode) return watched;
    const absl::MutexLock lock(&mutex_);
    const auto found = by_fd_.find(fd);
    if (found != by_fd_.end() && found->second == watched) by_fd_.erase(found);
    return nullptr;
  }

 private:
  absl::Mutex mutex_;
  // No more than there are numbers of files: the next socket takes the place.
  absl::flat_hash_map<int, std::shared_ptr<Watched>> by_fd_
      ABSL_GUARDED_BY(mutex_);
};

// Reads go on while the process ends.
WatchedConnections& Connections() {
  static auto& connections = *new WatchedConnections;
  return connections;
}

std::atomic<uint64_t> flooding{0};

void CountFlood(absl::string_view what) {
  if (++flooding % 1000 == 1) {
    LogWarning("a connection was closed: its client flooded it with ", what);
  }
}

// Whether gRPC may have the `count` bytes that were read.
bool Allows(int fd, const msghdr& message, size_t count) {
  const std::shared_ptr<Watched> watched = Connections().Find(fd);
  if (watched == nullptr) return true;
  const MonotonicTime now = std::chrono::steady_clock::now();
  for (size_t i = 0; i < message.msg_iovlen && count > 0; ++i) {
    const iovec& part = message.msg_iov[i];
    const size_t size = std::min(part.iov_len, count);
    count -= size;
    const absl::string_view flood = watched->meter.Take(
        {static_cast<const char*>(part.iov_base), size}, now);
    if (flood.empty()) continue;
    CountFlood(flood);
    watched->on_flood();
    return false;
  }
  return true;
}

void FreeMeter(void*, void* meter, CRYPTO_EX_DATA*, int, long, void*) {
  delete static_cast<Http2Meter*>(meter);
}

// That of a server's connection; null of a client's.
Http2Meter* MeterOf(SSL* ssl) {
  if (SSL_is_server(ssl) == 0) return nullptr;
  static const int index =
      SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, &FreeMeter);
  auto* meter = static_cast<Http2Meter*>(SSL_get_ex_data(ssl, index));
  if (meter != nullptr) return meter;
  auto made = std::make_unique<Http2Meter>();
  if (SSL_set_ex_data(ssl, index, made.get()) != 1) return nullptr;
  return made.release();
}

// The next definition of `name`: the library's own.
template <typename Function>
Function* NextOf(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  DESCANT_CHECK(found != nullptr);
  return reinterpret_cast<Function*>(found);
}

}  // namespace

void WatchConnection(int fd, ino_t inode, std::function<void()> on_flood) {
  auto watched = std::make_shared<Watched>();
  watched->inode = inode;
  watched->on_flood = std::move(on_flood);
  Connections().Add(fd, std::move(watched));
}

uint64_t FloodingConnections() { return flooding; }

}  // namespace descant

extern "C" {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  static auto* const next =
      descant::NextOf<ssize_t(int, msghdr*, int)>("recvmsg");
  const ssize_t count = next(fd, message, flags);
  if (count <= 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) != 0) return count;
  if (descant::Allows(fd, *message, static_cast<size_t>(count))) return count;
  shutdown(fd, SHUT_RDWR);
  errno = ECONNRESET;
  return -1;
}

int SSL_read(SSL* ssl, void* buffer, int size) {
  static auto* const next = descant::NextOf<int(SSL*, void*, int)>("SSL_read");
  const int count = next(ssl, buffer, size);
  if (count <= 0) return count;
  descant::Http2Meter* const meter = descant::MeterOf(ssl);
  if (meter == nullptr) return count;
  const absl::string_view flood = meter->Take(
      {static_cast<const char*>(buffer), static_cast<size_t>(count)},
      std::chrono::steady_clock::now());
  if (flood.empty()) return count;
  descant::CountFlood(flood);  // once: gRPC reads no more
  // SSL_get_error then says that the connection failed.
  ERR_raise(ERR_LIB_SSL, ERR_R_OPERATION_FAIL);
  return -1;
}

}  // extern "C"
