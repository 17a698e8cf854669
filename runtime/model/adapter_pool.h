// The device's adapter table on a CPU: slot -> packed adapter, in an arena of
// fixed size.
#ifndef DESCANT_RUNTIME_MODEL_ADAPTER_POOL_H_
#define DESCANT_RUNTIME_MODEL_ADAPTER_POOL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/adapter_image.h"
#include "runtime/kernels/arena.h"
#include "runtime/model/adapter_packing.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/model_config.h"
#include "runtime/model/range_allocator.h"
#include "runtime/model/runner.h"
#include "runtime/model/weight_type.h"

namespace descant {

struct Adapter;  // adapters/adapter.h

struct PackedAdapter {
  std::vector<PackedSite> sites;  // [layer * kLoraSites + site]
  int32_t max_rank = 0;           // of its sites
  uint32_t site_mask = 0;         // bit s: some layer has site s
  std::vector<uint64_t> ranges;   // of the arena: one offset a layer
};

// An adapter as the arena has it, but in host memory and in one piece.
class PackedImage final : public AdapterImage {
 public:
  uint64_t bytes() const override { return bytes_; }

 private:
  friend class AdapterPool;
  struct Layer {
    int32_t layer = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  struct Free {
    void operator()(std::byte* memory) const;
  };

  PackedAdapter packed_;  // its pointers are into data_
  std::vector<Layer> layers_;
  uint64_t bytes_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

// Loads and unloads are thread-safe against each other and against reads of
// other slots; the caller sees to it that nothing reads a slot while it
// changes. Pack is thread-safe.
class AdapterPool {
 public:
  static absl::StatusOr<std::unique_ptr<AdapterPool>> Create(
      const ModelConfig& config, AdapterWeightType type, int32_t slots,
      uint64_t bytes);

  // Long work, in pieces of a layer (runtime/base/pacing.h), as Load's is.
  // UNAVAILABLE ADAPTER_UNREADABLE: no host memory.
  absl::StatusOr<std::shared_ptr<const PackedImage>> Pack(
      const Adapter& adapter) const;

  // Copies into `slot`, replacing what was there. RESOURCE_EXHAUSTED: too
  // little room; the slot is then empty.
  absl::Status Load(int32_t slot, const PackedImage& image);
  void Unload(int32_t slot);

  // Arena bytes the adapter takes.
  uint64_t Bytes(const Adapter& adapter) const;
  // Of the arena.
  AdapterMemory memory() const;

  // Null when empty.
  const PackedAdapter* Find(int32_t slot) const { return slots_[slot].get(); }

 private:
  AdapterPool(const ModelConfig& config, AdapterWeightType type, int32_t slots,
              uint64_t bytes);

  const ModelConfig config_;
  const AdapterWeightType type_;
  kernels::Arena arena_;
  RangeAllocator ranges_;  // of the arena
  std::vector<std::unique_ptr<PackedAdapter>> slots_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_ADAPTER_POOL_H_
