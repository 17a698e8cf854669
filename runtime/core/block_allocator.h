// Hands out the physical blocks of the KV cache. The memory lives with the
// runner; here a block is a number.
#ifndef DESCANT_RUNTIME_CORE_BLOCK_ALLOCATOR_H_
#define DESCANT_RUNTIME_CORE_BLOCK_ALLOCATOR_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "runtime/core/idle_blocks.h"

namespace descant {

class BlockAllocator;

// One hold on a block; the block is given back when its last hold is
// destroyed. Must not outlive its allocator. An empty Block (moved from) holds
// nothing. What a shared block contains is final: only a sole holder writes.
class Block {
 public:
  Block() = default;
  Block(Block&& other) noexcept
      : allocator_(std::exchange(other.allocator_, nullptr)), id_(other.id_) {}
  Block& operator=(Block&& other) noexcept;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { Release(); }

  int32_t id() const { return id_; }
  bool empty() const { return allocator_ == nullptr; }
  // Another hold on the same block. REQUIRES: not empty.
  Block Share() const;
  // Whether there are other holds.
  bool shared() const;
  // Whether others may find it: its content is final.
  bool cached() const;
  // Marks the content as poisonous (a numeric fault): once released the block
  // waits in BlockAllocator::tainted() instead of the free list. REQUIRES: not
  // cached.
  void Taint();

 private:
  friend class BlockAllocator;
  Block(BlockAllocator* allocator, int32_t id)
      : allocator_(allocator), id_(id) {}
  void Release();

  BlockAllocator* allocator_ = nullptr;
  int32_t id_ = -1;
};

// Thread-compatible. Allocates memory at construction only.
//
// Invariants: every id in [0, total) is in exactly one of: the free list, the
// idle ones, the tainted list, one or more Blocks. free() + idle() + used() +
// tainted().size() == total().
class BlockAllocator {
 public:
  // Ids are [0, total).
  explicit BlockAllocator(int32_t total);
  BlockAllocator(const BlockAllocator&) = delete;
  BlockAllocator& operator=(const BlockAllocator&) = delete;
  // REQUIRES: every Block was given back.
  ~BlockAllocator();

  // Empty when none is free. The block released last comes first: its memory
  // is the likeliest to be in a CPU cache.
  std::optional<Block> Allocate();

  int32_t total() const { return static_cast<int32_t>(state_.size()); }
  // Cached blocks without a hold keep their content and wait in the idle list
  // of their owner: PrefixCache finds them again, or gives them up.
  // REQUIRES: it has a hold and is not cached; idle_blocks() knows the owner.
  void Cache(int32_t id, int32_t owner);
  void Uncache(int32_t id);  // REQUIRES: it is cached
  bool cached(int32_t id) const { return cached_[id]; }
  Block Hold(int32_t id);  // REQUIRES: it is cached
  // Whose it is. REQUIRES: it is cached.
  int32_t owner(int32_t id) const { return owners_[id]; }
  // Which of them goes next, and what an owner may have.
  IdleBlocks& idle_blocks() { return idle_; }
  const IdleBlocks& idle_blocks() const { return idle_; }

  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t idle() const { return idle_.size(); }
  // Free, or to be had by giving up idle ones.
  int32_t available() const { return free() + idle(); }
  int32_t used() const { return used_; }
  int32_t holds(int32_t id) const { return holds_[id]; }

  // Released blocks that must be cleared before anyone reads them again, and
  // the caller's word that they were.
  absl::Span<const int32_t> tainted() const { return tainted_; }
  void ReturnTainted();

  // Aborts when an invariant does not hold. O(total).
  void CheckInvariants() const;

 private:
  friend class Block;
  enum class State : uint8_t { kFree, kIdle, kUsed, kUsedTainted, kTainted };
  void Release(int32_t id);

  std::vector<State> state_;    // by id
  std::vector<int32_t> holds_;  // by id: Blocks there are of it
  std::vector<int32_t> free_;
  std::vector<int32_t> tainted_;
  std::vector<bool> cached_;     // by id
  std::vector<int32_t> owners_;  // by id, of cached ones
  IdleBlocks idle_;
  int32_t used_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_BLOCK_ALLOCATOR_H_
