#include "runtime/model/cuda_adapter_pool.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/adapter.h"
#include "adapters/error_reason.h"
#include "runtime/base/float16.h"
#include "runtime/base/pacing.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kLoraRankPad;
using kernels::LoraSlot;

static_assert(kMaxSlices == kernels::kLoraMaxSlices);

constexpr uint64_t kAlignment = 16;

int32_t PadRank(int32_t rank) {
  return (rank + kLoraRankPad - 1) / kLoraRankPad * kLoraRankPad;
}

// Pieces of a layer's range, by their offsets.
class Cursor {
 public:
  uint64_t size() const { return size_; }
  uint64_t Take(uint64_t bytes) {
    const uint64_t at = size_;
    size_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }

 private:
  uint64_t size_ = 0;
};

template <typename T>
T* AtOffset(uint64_t offset) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(offset));
}
template <typename T>
uint64_t OffsetOf(const T* pointer) {
  return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(pointer));
}

// Sizes and offsets of a site.
LoraSlot PlanSite(const ModuleSlice (&slices)[kMaxSlices], Cursor* cursor) {
  LoraSlot site;
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    if (slices[i].module == nullptr) continue;
    const int32_t rank = PadRank(slices[i].module->rank);
    if (!SharesA(slices, i)) site.rank += rank;
    site.slices[i].rank = rank;
    site.slices[i].rank_begin = site.rank - rank;
  }
  if (site.rank == 0) return site;
  const auto in = static_cast<uint64_t>(SiteInputs(slices));
  site.a = AtOffset<void>(cursor->Take(site.rank * in * sizeof(bf16_t)));
  site.scale = AtOffset<float>(cursor->Take(site.rank * sizeof(float)));
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    if (slices[i].module == nullptr) continue;
    site.slices[i].b =
        AtOffset<void>(cursor->Take(static_cast<uint64_t>(slices[i].rows) *
                                    site.slices[i].rank * sizeof(bf16_t)));
  }
  return site;
}

// bf16 to fp16 where the device computes in that; in place.
void ToDeviceType(kernels::HalfType half, bf16_t* values, uint64_t count) {
  if (half == kernels::HalfType::kBf16) return;
  for (uint64_t i = 0; i < count; ++i) {
    values[i] = ToFloat16(ToFloat(BFloat16{values[i]})).bits;
  }
}

// `base` is zeroed.
void FillSite(const ModuleSlice (&slices)[kMaxSlices], const LoraSlot& site,
              kernels::HalfType half, std::byte* base) {
  if (site.rank == 0) return;
  const auto in = static_cast<uint64_t>(SiteInputs(slices));
  auto* a = reinterpret_cast<bf16_t*>(base + OffsetOf(site.a));
  auto* scale = reinterpret_cast<float*>(base + OffsetOf(site.scale));
  std::vector<bf16_t> rows;
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    const AdapterModule* module = slices[i].module;
    if (module == nullptr) continue;
    if (!SharesA(slices, i)) {
      const auto begin = static_cast<uint64_t>(site.slices[i].rank_begin);
      CopyRowsAsBf16(module->a, 0, module->rank, a + begin * in);
      std::fill_n(scale + begin, module->rank, module->scale);
    }
    const int32_t out = slices[i].rows;
    rows.resize(static_cast<size_t>(out) * module->rank);
    CopyRowsAsBf16(module->b, slices[i].first_row, out, rows.data());
    auto* b = reinterpret_cast<bf16_t*>(base + OffsetOf(site.slices[i].b));
    for (int32_t row = 0; row < out; ++row) {
      std::memcpy(b + int64_t{row} * site.slices[i].rank,
                  rows.data() + int64_t{row} * module->rank,
                  module->rank * sizeof(bf16_t));
    }
    ToDeviceType(half, b, static_cast<uint64_t>(out) * site.slices[i].rank);
  }
  ToDeviceType(half, a, site.rank * in);
}

template <typename T>
void Rebase(std::byte* base, T** pointer) {
  *pointer = reinterpret_cast<T*>(base + OffsetOf(*pointer));
}

// Offsets within the layer's range become addresses on the device.
LoraSlot RebaseSite(LoraSlot site, std::byte* base) {
  if (site.rank == 0) return site;
  Rebase(base, &site.a);
  Rebase(base, &site.scale);
  for (kernels::LoraSlice& slice : site.slices) {
    if (slice.rank != 0) Rebase(base, &slice.b);
  }
  return site;
}

}  // namespace

CudaAdapterPool::CudaAdapterPool(const ModelConfig& config, int32_t slots,
                                 uint64_t bytes, Device* device)
    : config_(config), device_(device), ranges_(bytes), slots_(slots) {}

absl::StatusOr<std::unique_ptr<CudaAdapterPool>> CudaAdapterPool::Create(
    const ModelConfig& config, int32_t slots, uint64_t bytes, Device* device) {
  std::unique_ptr<CudaAdapterPool> pool(
      new CudaAdapterPool(config, slots, bytes, device));
  DESCANT_ASSIGN_OR_RETURN(pool->arena_, device->Allocate(bytes));
  DESCANT_ASSIGN_OR_RETURN(
      pool->table_, device->Allocate(uint64_t{sizeof(LoraSlot)} *
                                     config.num_layers * kLoraSites * slots));
  return pool;
}

int32_t CudaAdapterPool::MaxSiteRank() {
  return kMaxSlices * kernels::kLoraMaxRank;
}

absl::StatusOr<std::shared_ptr<const CudaImage>> CudaAdapterPool::Pack(
    const Adapter& adapter) const {
  if (adapter.max_rank > kernels::kLoraMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", adapter.max_rank,
                     " is more than a GPU serves: ", kernels::kLoraMaxRank));
  }
  auto image = std::make_shared<CudaImage>();
  image->sites_.resize(int64_t{config_.num_layers} * kLoraSites);
  uint64_t bytes = 0;
  size_t next = 0;
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    const LayerModules modules = TakeLayer(config_, adapter, layer, &next);
    Cursor cursor;
    for (int32_t s = 0; s < kLoraSites; ++s) {
      image->sites_[layer * kLoraSites + s] = PlanSite(modules.at[s], &cursor);
    }
    if (cursor.size() == 0) continue;
    image->layers_.push_back({layer, bytes, cursor.size()});
    bytes += cursor.size();
  }
  absl::StatusOr<DeviceMemory> data = device_->AllocateHost(bytes);
  if (!data.ok()) {
    return ReasonedError(absl::StatusCode::kUnavailable,
                         reason::kAdapterUnreadable,
                         "no memory for the adapter right now", "adapter_id");
  }
  image->data_ = *std::move(data);
  next = 0;
  for (const CudaImage::Layer& at : image->layers_) {
    Breathe();
    const LayerModules modules = TakeLayer(config_, adapter, at.layer, &next);
    for (int32_t s = 0; s < kLoraSites; ++s) {
      FillSite(modules.at[s], image->sites_[at.layer * kLoraSites + s],
               device_->half(), image->data_.data() + at.offset);
    }
  }
  return std::shared_ptr<const CudaImage>(std::move(image));
}

absl::Status CudaAdapterPool::Load(int32_t slot, const CudaImage& image) {
  Unload(slot);
  Slot& to = slots_[slot];
  std::vector<LoraSlot> column(image.sites_.size());
  std::vector<DeviceCopy> copies;
  for (const CudaImage::Layer& at : image.layers_) {
    absl::StatusOr<uint64_t> offset = ranges_.Allocate(at.bytes);
    if (!offset.ok()) {
      Unload(slot);
      return std::move(offset).status();
    }
    to.ranges.push_back(*offset);
    std::byte* base = arena_.data() + *offset;
    copies.push_back({base, image.data_.data() + at.offset, at.bytes});
    for (int32_t s = 0; s < kLoraSites; ++s) {
      const int32_t index = at.layer * kLoraSites + s;
      column[index] = RebaseSite(image.sites_[index], base);
      const int32_t rank = column[index].rank;
      to.adapter.max_rank = std::max(to.adapter.max_rank, rank);
      if (rank != 0) to.adapter.site_mask |= uint32_t{1} << s;
    }
  }
  // A column of the table: the slot of every layer and site.
  const uint64_t pitch = sizeof(LoraSlot) * slots_.size();
  copies.push_back({table_.data<LoraSlot>() + slot, column.data(),
                    sizeof(LoraSlot), column.size(), pitch, sizeof(LoraSlot)});
  if (absl::Status status = device_->Load(copies); !status.ok()) {
    Unload(slot);
    return status;
  }
  to.loaded = true;
  return absl::OkStatus();
}

void CudaAdapterPool::Unload(int32_t slot) {
  for (const uint64_t range : slots_[slot].ranges) ranges_.Free(range);
  slots_[slot] = {};
}

uint64_t CudaAdapterPool::Bytes(const Adapter& adapter) const {
  uint64_t bytes = 0;
  size_t next = 0;
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    const LayerModules modules = TakeLayer(config_, adapter, layer, &next);
    Cursor cursor;
    for (const auto& slices : modules.at) PlanSite(slices, &cursor);
    bytes += cursor.size();
  }
  return bytes;
}

}  // namespace descant
