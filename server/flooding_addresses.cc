#include "server/flooding_addresses.h"

#include <netinet/in.h>

#include "server/limits.h"

namespace descant {

std::string AddressBytes(const sockaddr_storage& peer) {
  if (peer.ss_family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(peer).sin_addr;
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  if (peer.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr;
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  return {};
}

void FloodingAddresses::Add(const std::string& address, MonotonicTime now) {
  if (address.empty()) return;
  const absl::MutexLock lock(&mutex_);
  if (until_.size() >= limits::kMaxFloodingAddresses) {
    absl::erase_if(until_,
                   [now](const auto& entry) { return entry.second <= now; });
    if (until_.size() >= limits::kMaxFloodingAddresses) return;
  }
  until_[address] = now + limits::kFloodPenalty;
}

bool FloodingAddresses::Refuses(const std::string& address, MonotonicTime now) {
  const absl::MutexLock lock(&mutex_);
  const auto found = until_.find(address);
  if (found == until_.end()) return false;
  if (found->second > now) return true;
  until_.erase(found);
  return false;
}

}  // namespace descant
