#include "runtime/model/range_allocator.h"

#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace descant {

RangeAllocator::RangeAllocator(uint64_t size) : size_(size) {
  MutexLock lock(&mutex_);
  if (size > 0) free_.emplace(0, size);
}

uint64_t RangeAllocator::used() const {
  MutexLock lock(&mutex_);
  return used_bytes_;
}

absl::StatusOr<uint64_t> RangeAllocator::Allocate(uint64_t bytes) {
  MutexLock lock(&mutex_);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [offset, size] = *it;
    if (size < bytes) continue;
    free_.erase(it);
    if (size > bytes) free_.emplace(offset + bytes, size - bytes);
    used_.emplace(offset, bytes);
    used_bytes_ += bytes;
    return offset;
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("adapter memory of ", size_, " bytes is full"));
}

void RangeAllocator::Free(uint64_t offset) {
  MutexLock lock(&mutex_);
  const auto used = used_.find(offset);
  DESCANT_CHECK(used != used_.end());
  uint64_t size = used->second;
  used_.erase(used);
  used_bytes_ -= size;
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + size) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += size;
      return;
    }
  }
  free_.emplace(offset, size);
}

}  // namespace descant
