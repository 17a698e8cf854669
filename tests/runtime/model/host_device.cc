#include "tests/runtime/model/host_device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status_macros.h"
#include "tests/testing/cuda_emulation/emulated_kernels.h"

namespace descant {
namespace {

constexpr std::align_val_t kAlignment{256};
constexpr uint64_t kCapacity = uint64_t{1} << 30;

void* TakeZeroed(uint64_t bytes) {
  void* data = ::operator new[](bytes, kAlignment, std::nothrow);
  if (data != nullptr) std::memset(data, 0, bytes);
  return data;
}

void GiveBack(void* data) { ::operator delete[](data, kAlignment); }

// What is freed is not given out again while the device or some of its memory
// is there, and holds no number: so that who still uses it is found.
class DeviceArena {
 public:
  explicit DeviceArena(uint64_t capacity) : capacity_(capacity) {}
  ~DeviceArena() {
    for (const auto& [data, size] : freed_) GiveBack(data);
  }

  void* Take(uint64_t bytes) {
    const MutexLock lock(&mutex_);
    if (bytes > capacity_ - used_) return nullptr;
    void* const data = TakeZeroed(bytes);
    if (data != nullptr) used_ += bytes;
    return data;
  }
  void Free(void* data, uint64_t bytes) {
    constexpr int kNoNumber = 0xff;  // in any type of ours
    const MutexLock lock(&mutex_);
    std::memset(data, kNoNumber, bytes);
    freed_[static_cast<std::byte*>(data)] = bytes;
    used_ -= bytes;
  }
  uint64_t free_bytes() const {
    const MutexLock lock(&mutex_);
    return capacity_ - used_;
  }
  absl::Status CheckUse(std::initializer_list<const void*> addresses) const {
    const MutexLock lock(&mutex_);
    for (const void* address : addresses) {
      const auto* at = static_cast<const std::byte*>(address);
      const auto behind = freed_.upper_bound(const_cast<std::byte*>(at));
      if (behind == freed_.begin()) continue;
      const auto& [data, size] = *std::prev(behind);
      if (at < data + size) {
        return absl::InternalError("use of device memory that was freed");
      }
    }
    return absl::OkStatus();
  }

 private:
  const uint64_t capacity_;
  mutable Mutex mutex_;
  uint64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::byte*, uint64_t> freed_ ABSL_GUARDED_BY(mutex_);
};

class HostGraph final : public DeviceGraph {
 public:
  std::vector<std::function<absl::Status()>> calls;

  absl::Status Replay() override {
    for (const auto& call : calls) {
      if (absl::Status status = call(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
};

float HalfToFloat(kernels::HalfType half, const void* from, int64_t at) {
  const uint16_t bits = static_cast<const uint16_t*>(from)[at];
  return half == kernels::HalfType::kBf16 ? ToFloat(BFloat16{bits})
                                          : ToFloat(Float16{bits});
}

void StoreHalf(kernels::HalfType half, float value, void* to, int64_t at) {
  static_cast<uint16_t*>(to)[at] = half == kernels::HalfType::kBf16
                                       ? ToBFloat16(value).bits
                                       : ToFloat16(value).bits;
}

// One head of one row, which sees keys [begin, end) of all.
void AttendRow(kernels::HalfType half, const ChunkAttention& a, int64_t row,
               int32_t head, int64_t begin, int64_t end) {
  const int64_t kv_head = head / (a.heads / a.kv_heads);
  const int64_t q = row * a.q_stride + int64_t{head} * a.head_dim;
  const auto kv = [&](int64_t key) {
    return (key * a.kv_heads + kv_head) * a.head_dim;
  };
  std::vector<float> scores;
  for (int64_t key = begin; key < end; ++key) {
    float sum = 0;
    for (int32_t d = 0; d < a.head_dim; ++d) {
      sum += HalfToFloat(half, a.q, q + d) *
             HalfToFloat(half, a.keys, kv(key) + d);
    }
    scores.push_back(a.scale * sum);
  }
  const float largest = *std::max_element(scores.begin(), scores.end());
  float divisor = 0;
  for (float& score : scores) {
    score = std::exp(score - largest);
    divisor += score;
  }
  for (int32_t d = 0; d < a.head_dim; ++d) {
    float sum = 0;
    for (int64_t key = begin; key < end; ++key) {
      sum += scores[key - begin] * HalfToFloat(half, a.values, kv(key) + d);
    }
    StoreHalf(half, sum / divisor, a.out,
              row * a.out_stride + int64_t{head} * a.head_dim + d);
  }
}

class HostDevice final : public Device {
 public:
  HostDevice(const kernels::CudaKernels& kernels, kernels::HalfType half,
             uint64_t capacity)
      : kernels_(kernels),
        half_(half),
        arena_(std::make_shared<DeviceArena>(capacity)) {}

  std::string Describe() const override { return "host memory"; }
  kernels::HalfType half() const override { return half_; }
  const kernels::CudaKernels& kernels() const override { return kernels_; }
  void* stream() const override { return nullptr; }
  absl::StatusOr<uint64_t> FreeBytes() const override {
    return arena_->free_bytes();
  }

  absl::StatusOr<DeviceMemory> Allocate(uint64_t bytes) override {
    if (bytes == 0) return DeviceMemory();
    void* const data = arena_->Take(bytes);
    if (data == nullptr) return absl::ResourceExhaustedError("device memory");
    return DeviceMemory(data, bytes, [arena = arena_, bytes](void* memory) {
      arena->Free(memory, bytes);
    });
  }
  absl::StatusOr<DeviceMemory> AllocateHost(uint64_t bytes) const override {
    if (bytes == 0) return DeviceMemory();
    void* const data = TakeZeroed(bytes);
    if (data == nullptr) return absl::ResourceExhaustedError("host memory");
    return DeviceMemory(data, bytes, GiveBack);
  }

  absl::Status CopyToDevice(void* to, const void* from,
                            uint64_t bytes) override {
    DESCANT_RETURN_IF_ERROR(arena_->CheckUse({to}));
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* to, const void* from, uint64_t bytes) override {
    DESCANT_RETURN_IF_ERROR(arena_->CheckUse({from}));
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }

  absl::Status Load(absl::Span<const DeviceCopy> copies) override {
    for (const DeviceCopy& copy : copies) {
      DESCANT_RETURN_IF_ERROR(arena_->CheckUse({copy.to}));
      for (uint64_t row = 0; row < copy.rows; ++row) {
        std::memcpy(
            static_cast<std::byte*>(copy.to) + row * copy.to_pitch,
            static_cast<const std::byte*>(copy.from) + row * copy.from_pitch,
            copy.bytes);
      }
    }
    return absl::OkStatus();
  }

  bool HasChunkAttention(int32_t head_dim) const override {
    return head_dim % 8 == 0 && head_dim <= 256;
  }

  absl::Status AttendChunks(const ChunkAttention& attention) override {
    const ChunkAttention& a = attention;
    DESCANT_CHECK(recording_ == nullptr);
    DESCANT_CHECK(a.row_begins[0] == 0 && a.key_begins[0] == 0);
    DESCANT_CHECK(a.row_begins[a.sequences] == a.rows);
    DESCANT_CHECK(a.key_begins[a.sequences] == a.key_count);
    for (int32_t i = 0; i < a.sequences; ++i) {
      const int32_t end = a.row_begins[i + 1];
      const int32_t rows = end - a.row_begins[i];
      const int32_t keys = a.key_begins[i + 1] - a.key_begins[i];
      DESCANT_CHECK(rows > 0 && rows <= a.most_rows);
      DESCANT_CHECK(keys >= rows && keys <= a.most_keys);
      for (int32_t row = a.row_begins[i]; row < end; ++row) {
        const int32_t last = keys - (end - row);
        const int32_t first =
            a.window > 0 ? std::max(last - a.window + 1, 0) : 0;
        for (int32_t head = 0; head < a.heads; ++head) {
          AttendRow(half_, a, row, head, a.key_begins[i] + first,
                    a.key_begins[i] + last + 1);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<absl::Status()>& launches) override {
    DESCANT_CHECK(recording_ == nullptr);
    auto graph = std::make_unique<HostGraph>();
    recording_ = &graph->calls;
    const absl::Status status = launches();
    recording_ = nullptr;
    if (!status.ok()) return status;
    return graph;
  }

 protected:
  absl::Status MultiplyNow(const MatrixProduct& product) override {
    if (product.rows == 0) return absl::OkStatus();
    DESCANT_RETURN_IF_ERROR(
        arena_->CheckUse({product.x, product.w, product.bias, product.y}));
    const auto options = at::TensorOptions().dtype(
        half_ == kernels::HalfType::kBf16 ? at::kBFloat16 : at::kHalf);
    const auto view = [&](const void* data, at::IntArrayRef sizes,
                          at::IntArrayRef strides) {
      return at::from_blob(const_cast<void*>(data), sizes, strides, options);
    };
    try {
      const at::Tensor x =
          view(product.x, {product.rows, product.depth}, {product.x_stride, 1});
      const at::Tensor w =
          view(product.w, {product.columns, product.depth}, {product.depth, 1});
      at::Tensor y = view(product.y, {product.rows, product.columns},
                          {product.y_stride, 1});
      // Through fp32: the sums of a GPU, whatever the CPU's 16-bit product
      // does.
      at::Tensor sums = at::mm(x.to(at::kFloat), w.to(at::kFloat).t());
      if (product.bias != nullptr) {
        sums += view(product.bias, {product.columns}, {1}).to(at::kFloat);
      }
      y.copy_(sums);
    } catch (const c10::Error& error) {
      return absl::InternalError(error.what_without_backtrace());
    }
    return absl::OkStatus();
  }

 private:
  const kernels::CudaKernels& kernels_;
  const kernels::HalfType half_;
  const std::shared_ptr<DeviceArena> arena_;
};

}  // namespace

std::unique_ptr<Device> MakeHostDevice(kernels::HalfType half) {
  return MakeHostDevice(half, kCapacity);
}

std::unique_ptr<Device> MakeHostDevice(kernels::HalfType half,
                                       uint64_t capacity) {
  return std::make_unique<HostDevice>(*kernels::cuda_emulated::TableOf(half),
                                      half, capacity);
}

}  // namespace descant
