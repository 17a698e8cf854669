#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::cuda_emulation {
namespace {

// In front of the page that an array begins in. A negative index is often a
// small one.
constexpr size_t kFront = size_t{64} << 10;

}  // namespace

GuardedMemory AllocateGuarded(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t used = (bytes + page - 1) / page * page;
  const size_t mapped = kFront + used + page;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) std::abort();
  std::byte* const begin = static_cast<std::byte*>(base) + kFront;
  std::byte* const end = begin + used;
  if (mprotect(base, kFront, PROT_NONE) != 0) std::abort();
  if (mprotect(end, page, PROT_NONE) != 0) std::abort();
  std::memset(begin, 0xff, used);
  return {end - bytes, base, mapped};
}

void FreeGuarded(const GuardedMemory& memory) {
  munmap(memory.base, memory.mapped);
}

}  // namespace descant::cuda_emulation
