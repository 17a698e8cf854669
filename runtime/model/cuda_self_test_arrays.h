// Arrays on a device for the checks of its kernels, and those checks.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_SELF_TEST_ARRAYS_H_
#define DESCANT_RUNTIME_MODEL_CUDA_SELF_TEST_ARRAYS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/float16.h"
#include "runtime/model/device.h"
#include "runtime/model/self_test_values.h"

namespace descant {

// Remembers its first error, after which pointers are null and nothing is
// launched. Frees all arrays at its end.
class CudaTestArrays {
 public:
  explicit CudaTestArrays(Device* device) : device_(device) {}

  const absl::Status& status() const { return status_; }
  void* stream() const { return device_->stream(); }

  template <typename T>
  T* Upload(const std::vector<T>& values) {
    T* const to = Zeros<T>(values.size());
    if (to == nullptr) return nullptr;
    Update(device_->CopyToDevice(to, values.data(), values.size() * sizeof(T)));
    // The copy may be waiting, and `values` may go.
    Update(device_->Synchronize());
    return to;
  }
  template <typename T>
  T* Zeros(size_t count) {
    if (!status_.ok()) return nullptr;
    auto memory = device_->Allocate(count * sizeof(T));
    Update(memory.status());
    if (!memory.ok()) return nullptr;
    memory_.push_back(*std::move(memory));
    return memory_.back().data<T>();
  }
  template <typename T>
  std::vector<T> Download(const T* from, size_t count) {
    std::vector<T> values(count);
    if (!status_.ok()) return values;
    Update(device_->CopyToHost(values.data(), from, count * sizeof(T)));
    Update(device_->Synchronize());
    return values;
  }
  template <typename Args>
  void Launch(absl::Status (*kernel)(const Args&), const Args& args) {
    if (status_.ok()) Update(device_->Launch(kernel, args));
  }
  void Multiply(const MatrixProduct& product) {
    if (status_.ok()) Update(device_->Multiply(product));
  }

  bool HasChunkAttention(int32_t head_dim) const {
    return device_->HasChunkAttention(head_dim);
  }
  void Attend(const ChunkAttention& attention) {
    if (status_.ok()) Update(device_->AttendChunks(attention));
  }

  // A value in the device's 16-bit type, and back.
  uint16_t Half(float value) const {
    return device_->half() == kernels::HalfType::kBf16 ? ToBFloat16(value).bits
                                                       : ToFloat16(value).bits;
  }
  float Float(uint16_t half) const {
    return device_->half() == kernels::HalfType::kBf16 ? ToFloat(BFloat16{half})
                                                       : ToFloat(Float16{half});
  }
  std::vector<uint16_t> Halves(const std::vector<float>& values) const {
    std::vector<uint16_t> halves;
    for (const float value : values) halves.push_back(Half(value));
    return halves;
  }
  // Random ones.
  std::vector<uint16_t> Halves(size_t count, SelfTestValues* values) const {
    return Halves(values->Floats(count));
  }

 private:
  void Update(const absl::Status& status) { status_.Update(status); }

  Device* const device_;
  std::vector<DeviceMemory> memory_;
  absl::Status status_;
};

// Launches `kernel` on inputs of its own, and compares.
void CheckRoute(const kernels::CudaKernels& kernels, CudaTestArrays* arrays,
                LargestDifference* difference);
void CheckShrink(const kernels::CudaKernels& kernels, CudaTestArrays* arrays,
                 LargestDifference* difference);
void CheckExpand(const kernels::CudaKernels& kernels, CudaTestArrays* arrays,
                 LargestDifference* difference);
void CheckRope(const kernels::CudaKernels& kernels, CudaTestArrays* arrays,
               LargestDifference* difference);
void CheckAttention(const kernels::CudaKernels& kernels, CudaTestArrays* arrays,
                    LargestDifference* difference);
void CheckWidenLogits(const kernels::CudaKernels& kernels,
                      CudaTestArrays* arrays, LargestDifference* difference);
void CheckSample(const kernels::CudaKernels& kernels, CudaTestArrays* arrays,
                 LargestDifference* difference);
void CheckAcceptDrafts(const kernels::CudaKernels& kernels,
                       CudaTestArrays* arrays, LargestDifference* difference);
// The library's, where it has one.
void CheckChunkAttention(const kernels::CudaKernels& kernels,
                         CudaTestArrays* arrays, LargestDifference* difference);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_SELF_TEST_ARRAYS_H_
