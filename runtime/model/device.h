// The device that the CUDA runner computes on: memory, copies, the library's
// matrix products and attention, and graphs. A class so that the runner and
// everything above it run where there is no GPU as well: on the host's memory
// with the emulated kernels. No CUDA and no Torch in this header.
#ifndef DESCANT_RUNTIME_MODEL_DEVICE_H_
#define DESCANT_RUNTIME_MODEL_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/kernels/cuda/cuda_kernels.h"

namespace descant {

// Bytes of a device, or of the host where copies need not wait. Starts at a
// multiple of 256. Owns them; any thread may give them back, beside the
// device's work on other memory.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(void* data, uint64_t size, std::function<void(void*)> free)
      : data_(data), size_(size), free_(std::move(free)) {}
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(free_, other.free_);
    return *this;
  }
  ~DeviceMemory() {
    if (data_ != nullptr) free_(data_);
  }

  template <typename T = std::byte>
  T* data(uint64_t offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + offset);
  }
  uint64_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  uint64_t size_ = 0;
  std::function<void(void*)> free_;
};

// y [rows, columns] = x [rows, depth] w [columns, depth]^T (+ bias [columns]),
// all of them in the device's 16-bit type, in its memory; sums are fp32.
struct MatrixProduct {
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* w = nullptr;  // rows are contiguous
  const void* bias = nullptr;
  void* y = nullptr;
  int64_t y_stride = 0;
  int32_t rows = 0;
  int32_t columns = 0;
  int32_t depth = 0;
};

// Causal attention of chunks of prompts over contiguous keys and values: out =
// softmax(scale * q K^T) V. Sequences lie one behind the other. A chunk's rows
// are the last positions of its keys: row i of r sees keys [0, n - r + i] of n,
// or the last `window` of them. Pointers are into device memory, half unless
// said otherwise; queries and keys of a head are contiguous.
struct ChunkAttention {
  const void* q = nullptr;  // [rows, heads * head_dim]
  int64_t q_stride = 0;
  const void* keys = nullptr;  // [keys, kv_heads, head_dim], contiguous
  const void* values = nullptr;
  // int32 [sequences + 1]: where each one's rows and keys begin, from 0 on, and
  // where the last one's end. At least one row each, and as many keys.
  const int32_t* row_begins = nullptr;
  const int32_t* key_begins = nullptr;
  int32_t sequences = 0;
  int32_t rows = 0;  // of all sequences
  int32_t key_count = 0;
  int32_t most_rows = 0;  // of one sequence
  int32_t most_keys = 0;
  int32_t heads = 0;  // a multiple of kv_heads
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t window = 0;  // 0: everything
  float scale = 1;
  void* out = nullptr;  // [rows, heads * head_dim]
  int64_t out_stride = 0;
};

// `rows` runs of `bytes` bytes, each `from_pitch` and `to_pitch` behind the one
// before.
struct DeviceCopy {
  void* to = nullptr;
  const void* from = nullptr;
  uint64_t bytes = 0;
  uint64_t rows = 1;
  uint64_t to_pitch = 0;
  uint64_t from_pitch = 0;
};

// A captured sequence of launches and products, with the arguments they had.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Ordered as the launches would be.
  virtual absl::Status Replay() = 0;
};

// Used by the engine thread, but for Load, FreeBytes and the allocations, which
// are thread-safe, beside a capture too. Work is ordered in one stream, and
// done when Synchronize returns. Errors: UNAVAILABLE (no device or driver),
// RESOURCE_EXHAUSTED (memory), INTERNAL (anything that the device reports; it
// may then be good for nothing any more).
class Device {
 public:
  virtual ~Device() = default;

  // "NVIDIA H100 80GB HBM3, sm_90, driver of CUDA 13.1"
  virtual std::string Describe() const = 0;
  virtual kernels::HalfType half() const = 0;
  virtual const kernels::CudaKernels& kernels() const = 0;
  virtual void* stream() const = 0;
  // Bytes that may be allocated.
  virtual absl::StatusOr<uint64_t> FreeBytes() const = 0;

  // Zeroed.
  virtual absl::StatusOr<DeviceMemory> Allocate(uint64_t bytes) = 0;
  virtual absl::StatusOr<DeviceMemory> AllocateHost(uint64_t bytes) const = 0;

  // In the stream's order; the host's memory must stay as it is until then.
  virtual absl::Status CopyToDevice(void* to, const void* from,
                                    uint64_t bytes) = 0;
  virtual absl::Status CopyToHost(void* to, const void* from,
                                  uint64_t bytes) = 0;
  virtual absl::Status Synchronize() = 0;

  // Copies from the host beside the stream, and returns when they are done.
  virtual absl::Status Load(absl::Span<const DeviceCopy> copies) = 0;

  // A kernel of kernels(), or the product: at once, or into the graph that is
  // being captured.
  template <typename Args>
  absl::Status Launch(absl::Status (*kernel)(const Args&), const Args& args) {
    if (recording_ == nullptr) return kernel(args);
    recording_->push_back([kernel, args] { return kernel(args); });
    return absl::OkStatus();
  }
  absl::Status Multiply(const MatrixProduct& product) {
    if (recording_ == nullptr) return MultiplyNow(product);
    recording_->push_back([this, product] { return MultiplyNow(product); });
    return absl::OkStatus();
  }

  // Whether the library has attention for heads of this size.
  virtual bool HasChunkAttention(int32_t head_dim) const = 0;
  // Only where HasChunkAttention. Never captured: sizes are the host's.
  virtual absl::Status AttendChunks(const ChunkAttention& attention) = 0;

  // What `launches` would have done, to be done by Replay. Nothing else may use
  // the device meanwhile, but for what is thread-safe.
  virtual absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<absl::Status()>& launches) = 0;

 protected:
  virtual absl::Status MultiplyNow(const MatrixProduct& product) = 0;

  // Not null while a device that has no graphs of its own captures one.
  std::vector<std::function<absl::Status()>>* recording_ = nullptr;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_DEVICE_H_
