// Ranges of an arena of fixed size, first fit.
#ifndef DESCANT_RUNTIME_MODEL_RANGE_ALLOCATOR_H_
#define DESCANT_RUNTIME_MODEL_RANGE_ALLOCATOR_H_

#include <cstdint>
#include <map>

#include "absl/status/statusor.h"
#include "runtime/base/mutex.h"

namespace descant {

// Thread-safe.
class RangeAllocator {
 public:
  explicit RangeAllocator(uint64_t size);

  // The first byte of a free range. RESOURCE_EXHAUSTED: none is long enough.
  // REQUIRES: bytes > 0.
  absl::StatusOr<uint64_t> Allocate(uint64_t bytes);
  // REQUIRES: `offset` is what Allocate gave.
  void Free(uint64_t offset);

  uint64_t size() const { return size_; }
  uint64_t used() const;

 private:
  const uint64_t size_;
  mutable Mutex mutex_;
  uint64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Offset -> size. Neighbouring free ranges are one.
  std::map<uint64_t, uint64_t> free_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, uint64_t> used_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_RANGE_ALLOCATOR_H_
