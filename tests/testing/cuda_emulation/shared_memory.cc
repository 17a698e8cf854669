#include "tests/testing/cuda_emulation/shared_memory.h"

#include <iterator>

namespace descant::cuda_emulation {
namespace {

constexpr uint32_t kPlace = 2;  // bytes

// Whether `then` is known to have happened before `now`.
bool Before(const Access& then, const Access& now) {
  if (then.thread == now.thread) return true;
  if (then.block_epoch < now.block_epoch) return true;
  return then.thread / 32 == now.thread / 32 &&
         then.warp_epoch < now.warp_epoch;
}

std::string Race(const char* now, const char* then, const Access& at,
                 const Access& other) {
  return std::string(now) + " by thread " + std::to_string(at.thread) +
         " races with a " + then + " by thread " + std::to_string(other.thread);
}

}  // namespace

void SharedMemory::Reset() {
  ++run_;
  size_ = 0;
}

uint32_t SharedMemory::Allocate(uint32_t bytes) {
  const uint32_t begin = size_;
  size_ += (bytes + 15) / 16 * 16;
  if (size_ > bytes_.size()) {
    bytes_.resize(size_);
    shadows_.resize(size_ / kPlace);
  }
  return begin;
}

std::string SharedMemory::Check(uint32_t offset, uint32_t bytes,
                                AccessKind kind, const Access& access) {
  if (offset + bytes > size_) return "shared memory: out of bounds";
  for (uint32_t i = offset / kPlace; i < (offset + bytes + 1) / kPlace; ++i) {
    const std::string wrong = CheckPlace(&shadows_[i], kind, access);
    if (!wrong.empty()) {
      return "shared memory, byte " + std::to_string(i * kPlace) + ": " + wrong;
    }
  }
  return "";
}

std::string SharedMemory::CheckPlace(Shadow* place, AccessKind kind,
                                     const Access& access) {
  if (place->run != run_) *place = {.run = run_};
  const bool reads = kind != AccessKind::kWrite;
  const bool writes = kind != AccessKind::kRead;
  if (reads && !place->written) return "read of what nobody has written";
  const bool both_atomic =
      kind == AccessKind::kAtomic && place->last_was_atomic;
  if (place->written && !both_atomic && !Before(place->writer, access)) {
    return Race(writes ? "write" : "read", "write", access, place->writer);
  }
  if (!writes) {
    // A reader that is known to be before this one needs no place of its own.
    for (uint8_t i = 0; i < place->readers; ++i) {
      if (!Before(place->reader[i], access)) continue;
      place->reader[i] = access;
      return "";
    }
    if (place->readers < std::size(place->reader)) {
      place->reader[place->readers++] = access;
    }
    return "";
  }
  for (uint8_t i = 0; i < place->readers; ++i) {
    if (!Before(place->reader[i], access)) {
      return Race("write", "read", access, place->reader[i]);
    }
  }
  place->readers = 0;
  place->written = true;
  place->last_was_atomic = kind == AccessKind::kAtomic;
  place->writer = access;
  return "";
}

}  // namespace descant::cuda_emulation
