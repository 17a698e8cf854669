#include "runtime/kernels/arena.h"

#include <sys/mman.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/kernels/numa.h"

namespace descant::kernels {
namespace {

constexpr uint64_t kHugePage = Arena::kPageBytes;

}  // namespace

absl::StatusOr<Arena> Arena::Create(uint64_t bytes) {
  Arena arena;
  if (bytes == 0) return arena;
  const uint64_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* mapping = MAP_FAILED;
  if (rounded >= bytes && rounded + kHugePage > rounded) {
    mapping = mmap(nullptr, rounded + kHugePage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", bytes, " bytes of memory"));
  }
  arena.mapping_ = mapping;
  arena.mapped_ = rounded + kHugePage;
  const uintptr_t start = reinterpret_cast<uintptr_t>(mapping);
  const uintptr_t aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  arena.data_ = reinterpret_cast<std::byte*>(aligned);
  arena.size_ = bytes;
  // Refused where huge pages are off: then these are ordinary pages.
  (void)madvise(arena.data_, rounded, MADV_HUGEPAGE);
  const NumaNodes& nodes = NumaNodes::OfMachine();
  if (nodes.several()) {
    (void)InterleaveNodes(arena.data_, rounded, nodes.nodes());
  }
  return arena;
}

Arena::Arena(Arena&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Arena::~Arena() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

}  // namespace descant::kernels
