#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::cuda_emulation {

GuardedMemory AllocateGuarded(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t used = (bytes + page - 1) / page * page;
  const size_t mapped = used + page;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) std::abort();
  std::byte* const end = static_cast<std::byte*>(base) + used;
  if (mprotect(end, page, PROT_NONE) != 0) std::abort();
  std::memset(base, 0xff, used);
  return {end - bytes, base, mapped};
}

void FreeGuarded(const GuardedMemory& memory) {
  munmap(memory.base, memory.mapped);
}

}  // namespace descant::cuda_emulation
