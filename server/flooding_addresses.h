// Addresses whose clients flooded a connection a moment ago: who connects anew
// at once could go on as fast as before.
#ifndef DESCANT_SERVER_FLOODING_ADDRESSES_H_
#define DESCANT_SERVER_FLOODING_ADDRESSES_H_

#include <sys/socket.h>

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/clock.h"

namespace descant {

// The bytes of the peer's IP address, without its port; empty of others.
std::string AddressBytes(const sockaddr_storage& peer);

// Thread-safe.
class FloodingAddresses {
 public:
  // Refused from now on, for limits::kFloodPenalty. Of more than
  // limits::kMaxFloodingAddresses at a time, later ones are not remembered.
  void Add(const std::string& address, MonotonicTime now);
  bool Refuses(const std::string& address, MonotonicTime now);

 private:
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, MonotonicTime> until_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_FLOODING_ADDRESSES_H_
