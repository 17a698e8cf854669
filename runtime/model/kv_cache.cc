#include "runtime/model/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/core/batch.h"
#include "runtime/kernels/packing.h"

namespace descant {

using kernels::bf16_t;

static_assert(kBlockSize == kernels::kKvBlock);

namespace {

// Elements of one block of one head.
int64_t HeadElements(const ModelConfig& config) {
  return kBlockSize *
         (config.head_dim +
          kernels::RoundUp(config.head_dim, kernels::kColumnBlock));
}

}  // namespace

uint64_t KvCache::BlockBytes(const ModelConfig& config) {
  return static_cast<uint64_t>(config.num_layers) * config.num_kv_heads *
         HeadElements(config) * sizeof(bf16_t);
}

absl::StatusOr<KvCache> KvCache::Create(const ModelConfig& config,
                                        uint64_t bytes) {
  const uint64_t block_bytes = BlockBytes(config);
  const uint64_t blocks = std::min<uint64_t>(bytes / block_bytes, INT32_MAX);
  if (blocks == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "KV memory of ", bytes, " bytes is less than one block of ",
        block_bytes, " bytes"));
  }
  KvCache cache;
  DESCANT_ASSIGN_OR_RETURN(cache.arena_,
                           kernels::Arena::Create(blocks * block_bytes));
  cache.data_ = reinterpret_cast<bf16_t*>(cache.arena_.data());
  cache.num_blocks_ = static_cast<int32_t>(blocks);
  cache.kv_heads_ = config.num_kv_heads;
  cache.head_dim_ = config.head_dim;
  cache.padded_dim_ = static_cast<int32_t>(
      kernels::RoundUp(config.head_dim, kernels::kColumnBlock));
  cache.v_offset_ = static_cast<int64_t>(config.head_dim) * kBlockSize;
  cache.head_stride_ = HeadElements(config);
  cache.layer_stride_ = cache.num_blocks_ * cache.block_stride();
  return cache;
}

void KvCache::Clear(int32_t layer, int32_t block) {
  std::memset(data_ + layer * layer_stride_ + block * block_stride(), 0,
              block_stride() * sizeof(bf16_t));
}

void KvCache::ClearToken(int32_t layer, int32_t block, int32_t offset) {
  for (int32_t head = 0; head < kv_heads_; ++head) {
    bf16_t* keys = data_ + layer * layer_stride_ + head * head_stride_ +
                   block * block_stride();
    bf16_t* values =
        keys + v_offset_ + offset / 2 * 2 * padded_dim_ + offset % 2;
    for (int32_t d = 0; d < head_dim_; d += 2) {
      std::memset(keys + (d / 2 * kBlockSize + offset) * 2, 0,
                  2 * sizeof(bf16_t));
    }
    for (int32_t d = 0; d < head_dim_; ++d) values[2 * d] = 0;
  }
}

void KvCache::Write(int32_t layer, int32_t kv_head, int32_t block,
                    int32_t offset, const bf16_t* k, const bf16_t* v) {
  bf16_t* keys = data_ + layer * layer_stride_ + kv_head * head_stride_ +
                 block * block_stride();
  bf16_t* values = keys + v_offset_ + offset / 2 * 2 * padded_dim_ + offset % 2;
  for (int32_t d = 0; d < head_dim_; d += 2) {
    std::memcpy(keys + (d / 2 * kBlockSize + offset) * 2, k + d,
                2 * sizeof(bf16_t));
  }
  for (int32_t d = 0; d < head_dim_; ++d) values[2 * d] = v[d];
}

}  // namespace descant
