// Memory of the paged KV cache, in the layout the attention kernels read.
#ifndef DESCANT_RUNTIME_MODEL_KV_CACHE_H_
#define DESCANT_RUNTIME_MODEL_KV_CACHE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/kernels/arena.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/model_config.h"

namespace descant {

// Blocks of kBlockSize tokens: [layer][block][kv head], each K as
// [head_dim / 2][32][2] and then V as [16][padded_dim][2] in bf16, where
// padded_dim is head_dim rounded up to 32 (the padding stays zero).
//
// Which block belongs to whom is the scheduler's business; the cache only
// holds bytes. A block must be cleared before its first token is written:
// masked positions are multiplied by zero, and what a former owner left there
// could be a NaN. Distinct tokens may be written concurrently.
class KvCache {
 public:
  // Bytes of one block, all layers.
  static uint64_t BlockBytes(const ModelConfig& config);

  // As many blocks as fit in `bytes`. INVALID_ARGUMENT when not even one
  // does; RESOURCE_EXHAUSTED.
  static absl::StatusOr<KvCache> Create(const ModelConfig& config,
                                        uint64_t bytes);

  int32_t num_blocks() const { return num_blocks_; }
  int32_t padded_dim() const { return padded_dim_; }
  // Elements from K to V within a block of one head.
  int64_t v_offset() const { return v_offset_; }
  // Elements from one block to the next.
  int64_t block_stride() const { return head_stride_ * kv_heads_; }

  // Block 0 of a layer's KV head.
  const kernels::bf16_t* Head(int32_t layer, int32_t kv_head) const {
    return data_ + layer * layer_stride_ + kv_head * head_stride_;
  }

  // Zeroes the block in one layer, all heads.
  void Clear(int32_t layer, int32_t block);

  // The same for one token of it.
  void ClearToken(int32_t layer, int32_t block, int32_t offset);

  // `k` and `v` are [head_dim]; `offset` in [0, kBlockSize).
  void Write(int32_t layer, int32_t kv_head, int32_t block, int32_t offset,
             const kernels::bf16_t* k, const kernels::bf16_t* v);

 private:
  kernels::Arena arena_;
  kernels::bf16_t* data_ = nullptr;
  int32_t num_blocks_ = 0;
  int32_t kv_heads_ = 0;
  int32_t head_dim_ = 0;
  int32_t padded_dim_ = 0;
  int64_t v_offset_ = 0;
  int64_t head_stride_ = 0;
  int64_t layer_stride_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_KV_CACHE_H_
