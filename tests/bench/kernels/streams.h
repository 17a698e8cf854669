// Buffers that kernels stream through, so that what a step reads from memory
// comes from memory here too.
#ifndef DESCANT_TESTS_BENCH_KERNELS_STREAMS_H_
#define DESCANT_TESTS_BENCH_KERNELS_STREAMS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/kernels/arena.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/worker_pool.h"

namespace descant::bench {

// Past the caches of any core or package here.
inline constexpr int64_t kStreamBytes = int64_t{192} << 20;

// Copies of a thing of `bytes` bytes, at least kStreamBytes in all. Each byte
// is 0x3c: as bf16, f16, fp32 or int8 a small number.
class Stream {
 public:
  explicit Stream(int64_t bytes)
      : bytes_(bytes),
        copies_(std::max<int64_t>(1, (kStreamBytes + bytes - 1) / bytes)) {
    auto arena = kernels::Arena::Create(copies_ * bytes_);
    DESCANT_CHECK(arena.ok());
    arena_ = *std::move(arena);
    std::memset(arena_.data(), 0x3c, arena_.size());
  }

  const std::byte* data() const { return arena_.data(); }
  int64_t copies() const { return copies_; }

 private:
  const int64_t bytes_;
  const int64_t copies_;
  kernels::Arena arena_;
};

// 64-byte aligned, zero.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) {
    auto arena = kernels::Arena::Create(std::max<int64_t>(size, 1) *
                                        static_cast<int64_t>(sizeof(T)));
    DESCANT_CHECK(arena.ok());
    arena_ = *std::move(arena);
  }
  T* data() { return reinterpret_cast<T*>(arena_.data()); }

 private:
  kernels::Arena arena_;
};

// Calls body(worker, begin, end) on every worker of the pool, with its share of
// `items`.
template <typename Body>
void OnShares(kernels::WorkerPool* pool, const kernels::CpuKernels& kernels,
              int64_t items, const Body& body) {
  struct Region {
    kernels::WorkerPool* pool;
    const kernels::CpuKernels* kernels;
    int64_t items;
    const Body* body;
  } region{pool, &kernels, items, &body};
  pool->Run(
      [](void* context, int32_t worker) {
        const Region& region = *static_cast<Region*>(context);
        const int64_t workers = region.pool->size();
        (*region.body)(worker, region.items * worker / workers,
                       region.items * (worker + 1) / workers);
        if (region.kernels->end_region != nullptr) {
          region.kernels->end_region();
        }
      },
      &region);
}

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_KERNELS_STREAMS_H_
