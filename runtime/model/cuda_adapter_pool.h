// The CUDA runner's adapters: packed once in host memory, copied into an arena
// of the device, and found by kernels in tables of fixed size, so that a
// captured graph serves whatever adapter is in a slot.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_ADAPTER_POOL_H_
#define DESCANT_RUNTIME_MODEL_CUDA_ADAPTER_POOL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/adapter_image.h"
#include "runtime/kernels/cuda/cuda_kernels.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/cuda_step_plan.h"
#include "runtime/model/device.h"
#include "runtime/model/model_config.h"
#include "runtime/model/range_allocator.h"
#include "runtime/model/runner.h"

namespace descant {

struct Adapter;  // adapters/adapter.h

// An adapter in host memory that copies to the device need not wait for.
class CudaImage final : public AdapterImage {
 public:
  uint64_t bytes() const override { return data_.size(); }

 private:
  friend class CudaAdapterPool;
  struct Layer {
    int32_t layer = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };

  // [layer * kLoraSites + site]; pointers are offsets from the layer's start.
  std::vector<kernels::LoraSlot> sites_;
  std::vector<Layer> layers_;  // those that the adapter changes
  DeviceMemory data_;
};

// Loads and unloads are thread-safe against each other and against steps with
// other slots; the caller sees to it that no step uses a slot while it changes.
// Pack is thread-safe.
class CudaAdapterPool {
 public:
  // Errors of the device.
  static absl::StatusOr<std::unique_ptr<CudaAdapterPool>> Create(
      const ModelConfig& config, int32_t slots, uint64_t bytes, Device* device);

  // UNAVAILABLE ADAPTER_UNREADABLE: no host memory. INVALID_ARGUMENT: a rank
  // above kernels::kLoraMaxRank.
  absl::StatusOr<std::shared_ptr<const CudaImage>> Pack(
      const Adapter& adapter) const;

  // Copies into `slot`, replacing what was there; done when it returns.
  // RESOURCE_EXHAUSTED: too little room; the slot is then empty.
  absl::Status Load(int32_t slot, const CudaImage& image);
  void Unload(int32_t slot);

  // Arena bytes the adapter takes.
  uint64_t Bytes(const Adapter& adapter) const;
  AdapterMemory memory() const { return {ranges_.used(), ranges_.size()}; }

  // Null when empty.
  const CudaAdapter* Find(int32_t slot) const {
    return slots_[slot].loaded ? &slots_[slot].adapter : nullptr;
  }
  // On the device, [slots].
  const kernels::LoraSlot* Table(int32_t layer, LoraSite site) const {
    return table_.data<kernels::LoraSlot>() +
           int64_t{layer * kLoraSites + static_cast<int32_t>(site)} *
               static_cast<int64_t>(slots_.size());
  }
  // The most that a site of an adapter may have, padded.
  static int32_t MaxSiteRank();

 private:
  struct Slot {
    bool loaded = false;
    CudaAdapter adapter;
    std::vector<uint64_t> ranges;
  };

  CudaAdapterPool(const ModelConfig& config, int32_t slots, uint64_t bytes,
                  Device* device);

  const ModelConfig config_;
  Device* const device_;
  RangeAllocator ranges_;  // of arena_
  DeviceMemory arena_;
  DeviceMemory table_;  // LoraSlot [layers * kLoraSites][slots]
  std::vector<Slot> slots_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_ADAPTER_POOL_H_
