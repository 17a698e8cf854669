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
#include "runtime/kernels/packing.h"
#include "runtime/model/memory_layout.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kColumnBlock;
using kernels::kRankBlock;
using kernels::RoundUp;

constexpr int64_t kAlignment = MemoryLayout::kCacheLine;

// Offsets and ranks of a site, without its bytes.
PackedSite PlanSite(const ModuleSlice (&slices)[kMaxSlices]) {
  PackedSite site;
  int32_t rank = 0;
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    if (slices[i].module == nullptr) continue;
    const int32_t pairs = (slices[i].module->rank + 1) / 2;
    if (!SharesA(slices, i)) rank += 2 * pairs;
    site.slices[i].rank_pairs = pairs;
    site.slices[i].h_offset = rank - 2 * pairs;
  }
  site.rank = static_cast<int32_t>(RoundUp(rank, kRankBlock));
  return site;
}

// `scratch` is reused from call to call.
void PackA(const ModuleSlice (&slices)[kMaxSlices], const PackedSite& site,
           int64_t in, std::vector<bf16_t>* scratch, bf16_t* a, float* scale) {
  std::vector<bf16_t>& rows = *scratch;
  rows.assign(site.rank * in, 0);
  std::fill_n(scale, site.rank, 0.0f);
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    const AdapterModule* module = slices[i].module;
    if (module == nullptr || SharesA(slices, i)) continue;
    const int32_t offset = site.slices[i].h_offset;
    CopyRowsAsBf16(module->a, 0, module->rank, rows.data() + offset * in);
    std::fill_n(scale + offset, module->rank, module->scale);
  }
  const int64_t block = RoundUp(in, 2) * kRankBlock;
  for (int64_t row = 0; row < site.rank; row += kRankBlock) {
    kernels::PackBlock(rows.data() + row * in, in, kRankBlock, in, kRankBlock,
                       a + row / kRankBlock * block);
  }
}

void PackB(const ModuleSlice& slice, std::vector<bf16_t>* scratch, bf16_t* b) {
  const int64_t out = slice.rows;
  const int64_t rank = slice.module->rank;
  std::vector<bf16_t>& rows = *scratch;
  rows.resize(out * rank);
  CopyRowsAsBf16(slice.module->b, slice.first_row, out, rows.data());
  const int64_t block = RoundUp(rank, 2) * kColumnBlock;
  for (int64_t row = 0; row < out; row += kColumnBlock) {
    kernels::PackBlock(
        rows.data() + row * rank, rank,
        static_cast<int32_t>(std::min<int64_t>(kColumnBlock, out - row)), rank,
        kColumnBlock, b + row / kColumnBlock * block);
  }
}

// Sites of one layer. Without scratch: only the size is meant.
void PackLayer(const LayerModules& modules, std::vector<bf16_t>* scratch,
               MemoryLayout* layout, PackedSite* sites) {
  for (int32_t s = 0; s < kLoraSites; ++s) {
    PackedSite site = PlanSite(modules.at[s]);
    const uint64_t begin = layout->size();
    if (site.rank != 0) {
      const int64_t in = SiteInputs(modules.at[s]);
      bf16_t* a = layout->Take<bf16_t>(site.rank * RoundUp(in, 2));
      float* scale = layout->Take<float>(site.rank);
      if (scratch) PackA(modules.at[s], site, in, scratch, a, scale);
      site.a = a;
      site.scale = scale;
    }
    for (int32_t i = 0; i < kMaxSlices; ++i) {
      const ModuleSlice& slice = modules.at[s][i];
      if (slice.module == nullptr) continue;
      bf16_t* b = layout->Take<bf16_t>(
          kernels::PackedSize(slice.rows, slice.module->rank, kColumnBlock));
      if (scratch) PackB(slice, scratch, b);
      site.slices[i].b = b;
    }
    site.elements =
        static_cast<int64_t>((layout->size() - begin) / sizeof(bf16_t));
    sites[s] = site;
  }
}

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
    const ModelConfig& config, int32_t slots, uint64_t bytes) {
  std::unique_ptr<AdapterPool> pool(new AdapterPool(config, slots, bytes));
  DESCANT_ASSIGN_OR_RETURN(pool->arena_, kernels::Arena::Create(bytes));
  return pool;
}

AdapterPool::AdapterPool(const ModelConfig& config, int32_t slots,
                         uint64_t bytes)
    : config_(config), ranges_(bytes), slots_(slots) {}

absl::StatusOr<std::shared_ptr<const PackedImage>> AdapterPool::Pack(
    const Adapter& adapter) const {
  auto image = std::make_shared<PackedImage>();
  PackedAdapter& packed = image->packed_;
  packed.sites.resize(config_.num_layers * kLoraSites);
  size_t next = 0;
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    MemoryLayout count(nullptr);
    PackLayer(TakeLayer(config_, adapter, layer, &next), nullptr, &count,
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
  std::vector<bf16_t> scratch;
  next = 0;
  for (const PackedImage::Layer& at : image->layers_) {
    Breathe();
    PackedSite* sites = &packed.sites[at.layer * kLoraSites];
    MemoryLayout layout(image->data_.get() + at.offset);
    PackLayer(TakeLayer(config_, adapter, at.layer, &next), &scratch, &layout,
              sites);
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
    PackLayer(TakeLayer(config_, adapter, layer, &next), nullptr, &count,
              sites);
    bytes += count.size();
  }
  return bytes;
}

AdapterMemory AdapterPool::memory() const {
  return {ranges_.used(), arena_.size()};
}

}  // namespace descant
