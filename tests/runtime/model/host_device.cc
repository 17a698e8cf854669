#include "tests/runtime/model/host_device.h"

#include <ATen/ATen.h>

#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "tests/testing/cuda_emulation/emulated_kernels.h"

namespace descant {
namespace {

constexpr std::align_val_t kAlignment{256};

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

class HostDevice final : public Device {
 public:
  HostDevice(const kernels::CudaKernels& kernels, kernels::HalfType half)
      : kernels_(kernels), half_(half) {}

  std::string Describe() const override { return "host memory"; }
  kernels::HalfType half() const override { return half_; }
  const kernels::CudaKernels& kernels() const override { return kernels_; }
  void* stream() const override { return nullptr; }
  absl::StatusOr<uint64_t> FreeBytes() const override {
    return uint64_t{1} << 30;
  }

  absl::StatusOr<DeviceMemory> Allocate(uint64_t bytes) override {
    return AllocateHost(bytes);
  }
  absl::StatusOr<DeviceMemory> AllocateHost(uint64_t bytes) const override {
    if (bytes == 0) return DeviceMemory();
    void* data = ::operator new[](bytes, kAlignment, std::nothrow);
    if (data == nullptr) return absl::ResourceExhaustedError("host memory");
    std::memset(data, 0, bytes);
    return DeviceMemory(data, bytes, [](void* memory) {
      ::operator delete[](memory, kAlignment);
    });
  }

  absl::Status CopyToDevice(void* to, const void* from,
                            uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* to, const void* from, uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }

  absl::Status Load(absl::Span<const DeviceCopy> copies) override {
    for (const DeviceCopy& copy : copies) {
      for (uint64_t row = 0; row < copy.rows; ++row) {
        std::memcpy(
            static_cast<std::byte*>(copy.to) + row * copy.to_pitch,
            static_cast<const std::byte*>(copy.from) + row * copy.from_pitch,
            copy.bytes);
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
};

}  // namespace

std::unique_ptr<Device> MakeHostDevice(kernels::HalfType half) {
  return std::make_unique<HostDevice>(*kernels::cuda_emulated::TableOf(half),
                                      half);
}

}  // namespace descant
