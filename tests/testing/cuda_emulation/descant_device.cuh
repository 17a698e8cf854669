// What CUDA kernels are written in, where they are compiled as C++ and run by
// EmulatedBlock. The twin of runtime/kernels/cuda/nvcc/descant_device.cuh: the
// include path decides which of the two a kernel gets.
//
// The one function that is inline PTX there has a second implementation here,
// from the fragment tables of the PTX ISA manual (section 9.7.13.5.8 of version
// 8.5); all other lines of a kernel are the same.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_DESCANT_DEVICE_CUH_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_DESCANT_DEVICE_CUH_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "runtime/base/float16.h"
#include "runtime/kernels/cuda/launch.h"
#include "tests/testing/cuda_emulation/emulated_block.h"
#include "tests/testing/cuda_emulation/emulated_launch.h"

// Where kernels live when compiled by this compiler.
#define DESCANT_CUDA_NAMESPACE cuda_emulated

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx \
  (::descant::cuda_emulation::EmulatedBlock::Current().thread_index())
#define blockIdx \
  (::descant::cuda_emulation::EmulatedBlock::Current().block_index())
#define blockDim \
  (::descant::cuda_emulation::EmulatedBlock::Current().block_dim())
#define gridDim (::descant::cuda_emulation::EmulatedBlock::Current().grid_dim())

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline void __syncthreads() {
  descant::cuda_emulation::EmulatedBlock::Current().SyncThreads();
}
inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  descant::cuda_emulation::EmulatedBlock::Current().SyncWarp(mask);
}

namespace descant::cuda_emulation {

// source(lane) is the lane whose value is wanted.
template <typename T, typename Source>
T Shuffle(uint32_t mask, const char* name, T value, const Source& source) {
  EmulatedBlock& block = EmulatedBlock::Current();
  const auto all = block.Exchange(mask, name, value);
  const int32_t from = source(static_cast<int32_t>(block.lane()));
  if (from < 0 || from >= static_cast<int32_t>(kWarp)) return value;
  if (((mask >> from) & 1u) == 0) {
    block.Fail(std::string(name) + " from a lane outside the mask");
  }
  return all[from];
}

}  // namespace descant::cuda_emulation

template <typename T>
T __shfl_sync(uint32_t mask, T value, int lane) {
  return descant::cuda_emulation::Shuffle(mask, "__shfl_sync", value,
                                          [&](int32_t) { return lane & 31; });
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int bits) {
  return descant::cuda_emulation::Shuffle(
      mask, "__shfl_xor_sync", value, [&](int32_t own) { return own ^ bits; });
}
template <typename T>
T __shfl_up_sync(uint32_t mask, T value, uint32_t by) {
  return descant::cuda_emulation::Shuffle(
      mask, "__shfl_up_sync", value,
      [&](int32_t own) { return own - static_cast<int32_t>(by); });
}
inline uint32_t __ballot_sync(uint32_t mask, bool value) {
  const auto all = descant::cuda_emulation::EmulatedBlock::Current().Exchange(
      mask, "__ballot_sync", uint32_t{value});
  uint32_t bits = 0;
  for (uint32_t i = 0; i < 32; ++i) {
    if (((mask >> i) & 1u) != 0) bits |= all[i] << i;
  }
  return bits;
}
inline uint32_t __match_any_sync(uint32_t mask, int32_t value) {
  const auto all = descant::cuda_emulation::EmulatedBlock::Current().Exchange(
      mask, "__match_any_sync", value);
  uint32_t bits = 0;
  for (uint32_t i = 0; i < 32; ++i) bits |= uint32_t{all[i] == value} << i;
  return bits & mask;
}
inline int __popc(uint32_t bits) { return std::popcount(bits); }
inline int __ffs(uint32_t bits) {
  return bits == 0 ? 0 : std::countr_zero(bits) + 1;
}
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __uint_as_float(uint32_t bits) {
  return std::bit_cast<float>(bits);
}
inline uint32_t __float_as_uint(float value) {
  return std::bit_cast<uint32_t>(value);
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((uint64_t{a} * b) >> 32);
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(a) * b) >> 64);
}
// Never fused with what uses the result.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }

namespace descant::kernels::cuda_emulated {

using std::max;
using std::min;
using BFloat16 = descant::BFloat16;
using Float16 = descant::Float16;

// ---- shared memory

template <typename T>
class SharedPtr;

// An element of it.
template <typename T>
class SharedRef {
 public:
  explicit SharedRef(uint32_t offset) : offset_(offset) {}
  // NOLINTNEXTLINE(google-explicit-constructor): as a T& would.
  operator T() const { return Load(); }
  const SharedRef& operator=(T value) const {
    std::memcpy(At(cuda_emulation::AccessKind::kWrite), &value, sizeof(T));
    return *this;
  }
  const SharedRef& operator=(const SharedRef& other) const {
    return *this = other.Load();
  }
  const SharedRef& operator+=(T value) const { return *this = Load() + value; }

 private:
  T Load() const {
    T value;
    std::memcpy(&value, At(cuda_emulation::AccessKind::kRead), sizeof(T));
    return value;
  }
  std::byte* At(cuda_emulation::AccessKind kind) const;

  uint32_t offset_;
};

// As T* would be. Elements of arrays are found by their offsets; each use
// checks that the array has it.
template <typename T>
class SharedPtr {
 public:
  SharedPtr() = default;
  SharedPtr(cuda_emulation::SharedRange array, uint32_t offset)
      : array_(array), offset_(offset) {}

  SharedRef<T> operator[](int64_t i) const {
    Check(i, sizeof(T));
    return SharedRef<T>(Offset(i));
  }
  SharedRef<T> operator*() const { return (*this)[0]; }
  SharedPtr operator+(int64_t i) const { return SharedPtr(array_, Offset(i)); }
  template <typename U>
  SharedPtr<U> As() const {
    return SharedPtr<U>(array_, offset_);
  }
  // That so many bytes from here on belong to the array.
  void Check(int64_t i, uint32_t bytes) const {
    const int64_t at = int64_t{offset_} + i * int64_t{sizeof(T)};
    if (at < array_.begin || at + bytes > array_.begin + array_.bytes) {
      cuda_emulation::EmulatedBlock::Current().Fail(
          "shared memory: beyond its array, element " + std::to_string(i));
    }
  }
  uint32_t offset() const { return offset_; }

 private:
  uint32_t Offset(int64_t i) const {
    return static_cast<uint32_t>(offset_ + i * static_cast<int64_t>(sizeof(T)));
  }

  cuda_emulation::SharedRange array_;
  uint32_t offset_ = 0;
};

template <typename T>
std::byte* SharedRef<T>::At(cuda_emulation::AccessKind kind) const {
  return cuda_emulation::EmulatedBlock::Current().TouchShared(offset_,
                                                              sizeof(T), kind);
}

template <typename T>
SharedPtr<T> MakeStaticShared(const void* key, uint32_t count) {
  const auto range = cuda_emulation::EmulatedBlock::Current().StaticShared(
      key, count * static_cast<uint32_t>(sizeof(T)));
  return SharedPtr<T>(range, range.begin);
}
#define DESCANT_SHARED(type, name, count) \
  static const char name##_key = 0;       \
  const SharedPtr<type> name = MakeStaticShared<type>(&name##_key, count)

template <typename To, typename T>
SharedPtr<To> SharedCast(SharedPtr<T> pointer) {
  return pointer.template As<To>();
}

// ---- 16 bytes at once

inline void CheckAligned(uint64_t address) {
  if (address % 16 != 0) {
    cuda_emulation::EmulatedBlock::Current().Fail("16 bytes, not aligned");
  }
}
template <typename T>
uint4 Load16(const T* from) {
  CheckAligned(reinterpret_cast<uintptr_t>(from));
  uint4 value;
  std::memcpy(&value, from, 16);
  return value;
}
template <typename T>
void Store16(T* to, uint4 value) {
  CheckAligned(reinterpret_cast<uintptr_t>(to));
  std::memcpy(to, &value, 16);
}
template <typename T>
uint4 Load16(SharedPtr<T> from) {
  CheckAligned(from.offset());
  return SharedCast<uint4>(from)[0];
}
template <typename T>
void Store16(SharedPtr<T> to, uint4 value) {
  CheckAligned(to.offset());
  SharedCast<uint4>(to)[0] = value;
}

// ---- atomics

inline int32_t atomicAdd(int32_t* at, int32_t value) {
  const int32_t old = *at;
  *at = old + value;
  return old;
}
inline int32_t atomicAdd(SharedPtr<int32_t> at, int32_t value) {
  at.Check(0, sizeof(int32_t));
  auto* place = reinterpret_cast<int32_t*>(
      cuda_emulation::EmulatedBlock::Current().TouchShared(
          at.offset(), sizeof(int32_t), cuda_emulation::AccessKind::kAtomic));
  return atomicAdd(place, value);
}
inline uint32_t atomicAdd(SharedPtr<uint32_t> at, uint32_t value) {
  at.Check(0, sizeof(uint32_t));
  auto* place = reinterpret_cast<uint32_t*>(
      cuda_emulation::EmulatedBlock::Current().TouchShared(
          at.offset(), sizeof(uint32_t), cuda_emulation::AccessKind::kAtomic));
  const uint32_t old = *place;
  *place = old + value;
  return old;
}

// ---- rounding

template <typename Half>
Half FromFloat(float value);
template <>
inline BFloat16 FromFloat<BFloat16>(float value) {
  return ToBFloat16(value);
}
template <>
inline Float16 FromFloat<Float16>(float value) {
  return ToFloat16(value);
}

// ---- inline PTX, on the other side

// mma.sync.aligned.m16n8k16.row.col.f32.{bf16|f16}.{bf16|f16}.f32:
// d[16, 8] += a[16, 16] b[16, 8]. With g = lane / 4 and t = lane % 4:
// a[0]: (g, 2t), a[1]: (g + 8, 2t), a[2]: (g, 2t + 8), a[3]: (g + 8, 2t + 8),
// each and the next column; b[0]: (2t, g), b[1]: (2t + 8, g), each and the next
// row; d[0], d[1]: (g, 2t) and the next column, d[2], d[3]: (g + 8, 2t).
template <typename Half>
void Mma16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Fragments {
    uint32_t a[4];
    uint32_t b[2];
  };
  Fragments mine;
  std::memcpy(mine.a, a, sizeof(mine.a));
  std::memcpy(mine.b, b, sizeof(mine.b));
  cuda_emulation::EmulatedBlock& block =
      cuda_emulation::EmulatedBlock::Current();
  const auto all = block.Exchange(0xffffffffu, "mma.m16n8k16", mine);
  const uint32_t group = block.lane() / 4;
  const uint32_t pair = block.lane() % 4;
  // Two rows of a and two columns of b are this lane's, [which][k].
  float rows[2][16];
  float columns[2][16];
  const auto low = [](uint32_t both) {
    return ToFloat(Half{static_cast<uint16_t>(both)});
  };
  for (uint32_t t = 0; t < 4; ++t) {
    const Fragments of_row = all[4 * group + t];
    for (uint32_t i = 0; i < 4; ++i) {
      float* to = &rows[i % 2][8 * (i / 2) + 2 * t];
      to[0] = low(of_row.a[i]);
      to[1] = low(of_row.a[i] >> 16);
    }
    for (uint32_t i = 0; i < 2; ++i) {
      const Fragments of_column = all[4 * (2 * pair + i) + t];
      for (uint32_t j = 0; j < 2; ++j) {
        float* to = &columns[i][8 * j + 2 * t];
        to[0] = low(of_column.b[j]);
        to[1] = low(of_column.b[j] >> 16);
      }
    }
  }
  for (uint32_t i = 0; i < 4; ++i) {
    for (uint32_t k = 0; k < 16; ++k) {
      d[i] += rows[i / 2][k] * columns[i % 2][k];
    }
  }
}

}  // namespace descant::kernels::cuda_emulated

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_DESCANT_DEVICE_CUH_
