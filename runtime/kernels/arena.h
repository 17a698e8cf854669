// One large block of memory: base weights, KV cache, adapters, scratch.
#ifndef DESCANT_RUNTIME_KERNELS_ARENA_H_
#define DESCANT_RUNTIME_KERNELS_ARENA_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

namespace descant::kernels {

// Zeroed, aligned to 2 MiB, on huge pages where the system gives them, from all
// nodes of memory in turn (numa.h). Frees its memory when it goes. Movable;
// thread-compatible.
class Arena {
 public:
  static constexpr uint64_t kPageBytes = uint64_t{2} << 20;

  // RESOURCE_EXHAUSTED: the system has no such amount of address space.
  static absl::StatusOr<Arena> Create(uint64_t bytes);

  Arena() = default;
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  void* mapping_ = nullptr;
  uint64_t mapped_ = 0;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_ARENA_H_
