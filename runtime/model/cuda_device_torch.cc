// The module behind MakeCudaDevice: memory and copies by the CUDA runtime,
// products, attention of prefill and graphs by LibTorch.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/cuda_device_module.h"

namespace descant {
namespace {

absl::Status StatusOf(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  // Told here: the thread's next launch is not to report it again.
  (void)cudaGetLastError();
  const std::string text = absl::StrCat(what, ": ", cudaGetErrorString(error));
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(text);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
      return absl::UnavailableError(text);
    default:
      return absl::InternalError(text);
  }
}

// What the library throws, as a status.
template <typename Function>
absl::Status Guarded(const char* what, const Function& function) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": ", error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    return absl::InternalError(
        absl::StrCat(what, ": ", error.what_without_backtrace()));
  }
}

class TorchGraph final : public DeviceGraph {
 public:
  explicit TorchGraph(c10::cuda::CUDAStream stream) : stream_(stream) {}

  at::cuda::CUDAGraph& graph() { return graph_; }
  absl::Status Replay() override {
    return Guarded("replay of a graph", [this] {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      graph_.replay();
      return absl::OkStatus();
    });
  }

 private:
  const c10::cuda::CUDAStream stream_;
  at::cuda::CUDAGraph graph_;
};

class TorchCudaDevice final : public Device {
 public:
  TorchCudaDevice(int32_t index, std::string name, kernels::HalfType half,
                  const kernels::CudaKernels& kernels)
      : index_(index),
        name_(std::move(name)),
        half_(half),
        kernels_(kernels),
        stream_(c10::cuda::getStreamFromPool(
            /*isHighPriority=*/true, static_cast<c10::DeviceIndex>(index))),
        graph_pool_(at::cuda::graph_pool_handle()) {}
  ~TorchCudaDevice() override {
    if (copy_stream_ != nullptr) cudaStreamDestroy(copy_stream_);
  }

  absl::Status Start() {
    DESCANT_RETURN_IF_ERROR(StatusOf("device", cudaSetDevice(index_)));
    DESCANT_RETURN_IF_ERROR(StatusOf(
        "compute capability",
        cudaDeviceGetAttribute(&compute_major_,
                               cudaDevAttrComputeCapabilityMajor, index_)));
    return StatusOf(
        "stream for copies",
        cudaStreamCreateWithFlags(&copy_stream_, cudaStreamNonBlocking));
  }

  std::string Describe() const override { return name_; }
  kernels::HalfType half() const override { return half_; }
  const kernels::CudaKernels& kernels() const override { return kernels_; }
  void* stream() const override { return stream_.stream(); }

  absl::StatusOr<uint64_t> FreeBytes() const override {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index_));
    size_t free = 0;
    size_t total = 0;
    DESCANT_RETURN_IF_ERROR(
        StatusOf("free memory", cudaMemGetInfo(&free, &total)));
    return free;
  }

  absl::StatusOr<DeviceMemory> Allocate(uint64_t bytes) override {
    if (bytes == 0) return DeviceMemory();
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index_));
    void* data = nullptr;
    DESCANT_RETURN_IF_ERROR(
        StatusOf(absl::StrCat(bytes, " bytes of the GPU").c_str(),
                 cudaMalloc(&data, bytes)));
    DeviceMemory memory(data, bytes, [](void* freed) { cudaFree(freed); });
    // Beside the steps, whose stream another thread may be capturing: to wait
    // for the whole device would end the capture.
    const MutexLock lock(&load_mutex_);
    DESCANT_RETURN_IF_ERROR(
        StatusOf("memset", cudaMemsetAsync(data, 0, bytes, copy_stream_)));
    DESCANT_RETURN_IF_ERROR(
        StatusOf("memset", cudaStreamSynchronize(copy_stream_)));
    return memory;
  }

  absl::StatusOr<DeviceMemory> AllocateHost(uint64_t bytes) const override {
    if (bytes == 0) return DeviceMemory();
    void* data = nullptr;
    DESCANT_RETURN_IF_ERROR(
        StatusOf(absl::StrCat(bytes, " bytes of pinned memory").c_str(),
                 cudaHostAlloc(&data, bytes, cudaHostAllocDefault)));
    DeviceMemory memory(data, bytes, [](void* freed) { cudaFreeHost(freed); });
    std::memset(data, 0, bytes);
    return memory;
  }

  absl::Status CopyToDevice(void* to, const void* from,
                            uint64_t bytes) override {
    return StatusOf("copy to the GPU",
                    cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice,
                                    stream_.stream()));
  }
  absl::Status CopyToHost(void* to, const void* from, uint64_t bytes) override {
    return StatusOf("copy from the GPU",
                    cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost,
                                    stream_.stream()));
  }
  absl::Status Synchronize() override {
    return StatusOf("step", cudaStreamSynchronize(stream_.stream()));
  }

  absl::Status Load(absl::Span<const DeviceCopy> copies) override {
    const MutexLock lock(&load_mutex_);
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index_));
    for (const DeviceCopy& copy : copies) {
      DESCANT_RETURN_IF_ERROR(StatusOf(
          "load",
          copy.rows == 1
              ? cudaMemcpyAsync(copy.to, copy.from, copy.bytes,
                                cudaMemcpyHostToDevice, copy_stream_)
              : cudaMemcpy2DAsync(copy.to, copy.to_pitch, copy.from,
                                  copy.from_pitch, copy.bytes, copy.rows,
                                  cudaMemcpyHostToDevice, copy_stream_)));
    }
    return StatusOf("load", cudaStreamSynchronize(copy_stream_));
  }

  // FlashAttention 2, as LibTorch builds it.
  bool HasChunkAttention(int32_t head_dim) const override {
    constexpr int kAmpere = 8;
    return head_dim % 8 == 0 && head_dim <= 256 && compute_major_ >= kAmpere;
  }

  absl::Status AttendChunks(const ChunkAttention& attention) override {
    const ChunkAttention& a = attention;
    return Guarded("attention", [&] {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      const at::Tensor q =
          View(a.q, {a.rows, a.heads, a.head_dim}, {a.q_stride, a.head_dim, 1});
      const std::array<int64_t, 3> sizes = {a.key_count, a.kv_heads,
                                            a.head_dim};
      const std::array<int64_t, 3> strides = {int64_t{a.kv_heads} * a.head_dim,
                                              a.head_dim, 1};
      std::optional<int64_t> left;
      if (a.window > 0) left = a.window - 1;
      const at::Tensor attended = std::get<0>(at::_flash_attention_forward(
          q, View(a.keys, sizes, strides), View(a.values, sizes, strides),
          Begins(a.row_begins, a.sequences), Begins(a.key_begins, a.sequences),
          a.most_rows, a.most_keys, /*dropout_p=*/0.0, /*is_causal=*/true,
          /*return_debug_mask=*/false, std::optional<double>(a.scale), left,
          /*window_size_right=*/std::optional<int64_t>(0)));
      View(a.out, {a.rows, a.heads, a.head_dim}, {a.out_stride, a.head_dim, 1})
          .copy_(attended);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<absl::Status()>& launches) override {
    auto graph = std::make_unique<TorchGraph>(stream_);
    DESCANT_RETURN_IF_ERROR(Guarded("capture of a graph", [&] {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      // Thread-local: loads go on meanwhile.
      graph->graph().capture_begin(graph_pool_,
                                   cudaStreamCaptureModeThreadLocal);
      const absl::Status status = launches();
      graph->graph().capture_end();
      return status;
    }));
    return graph;
  }

 protected:
  absl::Status MultiplyNow(const MatrixProduct& product) override {
    if (product.rows == 0) return absl::OkStatus();
    return Guarded("matrix product", [&] {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      const at::Tensor x =
          View(product.x, {product.rows, product.depth}, {product.x_stride, 1});
      const at::Tensor w =
          View(product.w, {product.columns, product.depth}, {product.depth, 1});
      at::Tensor y = View(product.y, {product.rows, product.columns},
                          {product.y_stride, 1});
      if (product.bias == nullptr) {
        at::mm_out(y, x, w.t());
      } else {
        at::addmm_out(y, View(product.bias, {product.columns}, {1}), x, w.t());
      }
      return absl::OkStatus();
    });
  }

 private:
  at::TensorOptions OptionsOf(at::ScalarType type) const {
    return at::TensorOptions().dtype(type).device(
        at::kCUDA, static_cast<c10::DeviceIndex>(index_));
  }
  at::Tensor View(const void* data, at::IntArrayRef sizes,
                  at::IntArrayRef strides) const {
    return at::from_blob(
        const_cast<void*>(data), sizes, strides,
        OptionsOf(half_ == kernels::HalfType::kBf16 ? at::kBFloat16
                                                    : at::kHalf));
  }
  at::Tensor Begins(const int32_t* data, int32_t sequences) const {
    return at::from_blob(const_cast<int32_t*>(data), {sequences + 1},
                         OptionsOf(at::kInt));
  }

  const int32_t index_;
  const std::string name_;
  const kernels::HalfType half_;
  const kernels::CudaKernels& kernels_;
  const c10::cuda::CUDAStream stream_;
  const at::cuda::MempoolId_t graph_pool_;
  int compute_major_ = 0;
  cudaStream_t copy_stream_ = nullptr;
  Mutex load_mutex_;
};

}  // namespace
}  // namespace descant

// (Both sides are built together: C linkage is for the name alone.)
#pragma GCC diagnostic ignored "-Wreturn-type-c-linkage"
extern "C" __attribute__((visibility("default")))
absl::StatusOr<std::unique_ptr<descant::Device>>
DescantMakeCudaDevice(int32_t index, const std::string& name,
                      descant::kernels::HalfType half,
                      const descant::kernels::CudaKernels* kernels) {
  std::unique_ptr<descant::TorchCudaDevice> device;
  DESCANT_RETURN_IF_ERROR(descant::Guarded("CUDA", [&]() -> absl::Status {
    device =
        std::make_unique<descant::TorchCudaDevice>(index, name, half, *kernels);
    return device->Start();
  }));
  return device;
}
