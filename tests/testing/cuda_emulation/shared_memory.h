// Shared memory of an emulated thread block, with a shadow that knows who was
// last at each place, and when: what racecheck and initcheck of
// compute-sanitizer look for on a GPU.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_SHARED_MEMORY_H_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace descant::cuda_emulation {

// Who, and between which barriers.
struct Access {
  uint32_t thread = 0;
  uint32_t block_epoch = 0;
  uint32_t warp_epoch = 0;
};

enum class AccessKind : uint8_t { kRead, kWrite, kAtomic };

class SharedMemory {
 public:
  // For another block: nothing is allocated.
  void Reset();
  // 16-byte aligned. Offset of the first byte. Nothing has been written.
  uint32_t Allocate(uint32_t bytes);
  std::byte* data() { return bytes_.data(); }

  // What is wrong with it, or nothing. Offsets and bytes are even.
  std::string Check(uint32_t offset, uint32_t bytes, AccessKind kind,
                    const Access& access);

 private:
  // Of two bytes.
  struct Shadow {
    uint32_t run = 0;  // of which block the rest is
    bool written = false;
    bool last_was_atomic = false;
    Access writer;
    // Since the last write. Four unordered ones are enough: whoever writes next
    // without a barrier is another thread than three of them.
    uint8_t readers = 0;
    Access reader[4];
  };

  std::string CheckPlace(Shadow* place, AccessKind kind, const Access& access);

  uint32_t run_ = 0;
  uint32_t size_ = 0;  // of what is allocated
  std::vector<std::byte> bytes_;
  std::vector<Shadow> shadows_;
};

// A part of it.
struct SharedRange {
  uint32_t begin = 0;
  uint32_t bytes = 0;
};

}  // namespace descant::cuda_emulation

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_SHARED_MEMORY_H_
