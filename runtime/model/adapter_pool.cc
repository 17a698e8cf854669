#include "runtime/model/adapter_pool.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "adapters/adapter.h"
#include "adapters/error_reason.h"
#include "runtime/base/pacing.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/memory_layout.h"

namespace descant {
namespace {

constexpr int64_t kAlignment = MemoryLayout::kCacheLine;

template <typename T>
void Move(const std::byte* from, std::byte* to, const T** pointer) {
  if (*pointer == nullptr) return;
  const auto* old = reinterpret_cast<const std::byte*>(*pointer);
  *pointer = reinterpret_cast<const T*>(to + (old - from));
}

// The site's bytes were copied.
void Rebase(const std::byte* from, std::byte* to, PackedSite* site) {
  Move(from, to, &site->a);
  Move(from, to, &site->scale);
  for (PackedSlice& slice : site->slices) Move(from, to, &slice.b);
}

}  // namespace

void PackedImage::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{kAlignment});
}

absl::StatusOr<std::unique_ptr<AdapterPool>> AdapterPool::Create(
    const ModelConfig& config, AdapterWeightType type, int32_t slots,
    uint64_t bytes) {
  std::unique_ptr<AdapterPool> pool(
      new AdapterPool(config, type, slots, bytes));
  DESCANT_ASSIGN_OR_RETURN(pool->arena_, kernels::Arena::Create(bytes));
  return pool;
}

AdapterPool::AdapterPool(const ModelConfig& config, AdapterWeightType type,
                         int32_t slots, uint64_t bytes)
    : config_(config), type_(type), ranges_(bytes), slots_(slots) {}

absl::StatusOr<std::shared_ptr<const PackedImage>> AdapterPool::Pack(
    const Adapter& adapter) const {
  auto image = std::make_shared<PackedImage>();
  PackedAdapter& packed = image->packed_;
  packed.sites.resize(config_.num_layers * kLoraSites);
  size_t next = 0;
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    MemoryLayout count(nullptr);
    PackLayer(TakeLayer(config_, adapter, layer, &next), type_, nullptr, &count,
              &packed.sites[layer * kLoraSites]);
    if (count.size() == 0) continue;
    image->layers_.push_back({layer, image->bytes_, count.size()});
    image->bytes_ += count.size();
  }
  image->data_.reset(static_cast<std::byte*>(::operator new[](
      image->bytes_, std::align_val_t{kAlignment}, std::nothrow)));
  if (image->data_ == nullptr) {
    return ReasonedError(absl::StatusCode::kUnavailable,
                         reason::kAdapterUnreadable,
                         "no memory for the adapter right now", "adapter_id");
  }
  PackingScratch scratch;
  next = 0;
  for (const PackedImage::Layer& at : image->layers_) {
    Breathe();
    PackedSite* sites = &packed.sites[at.layer * kLoraSites];
    MemoryLayout layout(image->data_.get() + at.offset);
    PackLayer(TakeLayer(config_, adapter, at.layer, &next), type_, &scratch,
              &layout, sites);
    for (int32_t s = 0; s < kLoraSites; ++s) {
      packed.max_rank = std::max(packed.max_rank, sites[s].rank);
      if (sites[s].rank != 0) packed.site_mask |= 1u << s;
    }
  }
  return std::shared_ptr<const PackedImage>(std::move(image));
}

absl::Status AdapterPool::Load(int32_t slot, const PackedImage& image) {
  Unload(slot);
  auto packed = std::make_unique<PackedAdapter>(image.packed_);
  for (const PackedImage::Layer& at : image.layers_) {
    Breathe();
    absl::StatusOr<uint64_t> offset = ranges_.Allocate(at.bytes);
    if (!offset.ok()) {
      for (const uint64_t range : packed->ranges) ranges_.Free(range);
      return std::move(offset).status();
    }
    packed->ranges.push_back(*offset);
    const std::byte* from = image.data_.get() + at.offset;
    std::byte* to = arena_.data() + *offset;
    std::memcpy(to, from, at.bytes);
    PackedSite* sites = &packed->sites[at.layer * kLoraSites];
    for (int32_t s = 0; s < kLoraSites; ++s) Rebase(from, to, &sites[s]);
  }
  slots_[slot] = std::move(packed);
  return absl::OkStatus();
}

void AdapterPool::Unload(int32_t slot) {
  if (slots_[slot] == nullptr) return;
  for (const uint64_t range : slots_[slot]->ranges) ranges_.Free(range);
  slots_[slot].reset();
}

uint64_t AdapterPool::Bytes(const Adapter& adapter) const {
  uint64_t bytes = 0;
  size_t next = 0;
  PackedSite sites[kLoraSites];
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    MemoryLayout count(nullptr);
    PackLayer(TakeLayer(config_, adapter, layer, &next), type_, nullptr, &count,
              sites);
    bytes += count.size();
  }
  return bytes;
}

AdapterMemory AdapterPool::memory() const {
  return {ranges_.used(), arena_.size()};
}

}  // namespace descant
