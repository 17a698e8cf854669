#include "runtime/core/block_allocator.h"

#include "runtime/base/check.h"

namespace descant {

Block& Block::operator=(Block&& other) noexcept {
  if (this != &other) {
    Release();
    allocator_ = std::exchange(other.allocator_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

void Block::Release() {
  if (allocator_ != nullptr) std::exchange(allocator_, nullptr)->Release(id_);
}

Block Block::Share() const {
  DESCANT_CHECK(!empty());
  ++allocator_->holds_[id_];
  return Block(allocator_, id_);
}

bool Block::shared() const {
  DESCANT_CHECK(!empty());
  return allocator_->holds_[id_] > 1;
}

bool Block::cached() const {
  DESCANT_CHECK(!empty());
  return allocator_->cached_[id_];
}

void Block::Taint() {
  DESCANT_CHECK(!empty() && !cached());
  allocator_->state_[id_] = BlockAllocator::State::kUsedTainted;
}

BlockAllocator::BlockAllocator(int32_t total) : idle_(total) {
  DESCANT_CHECK(total >= 0);
  state_.assign(total, State::kFree);
  holds_.assign(total, 0);
  cached_.assign(total, false);
  owners_.assign(total, 0);
  free_.reserve(total);
  tainted_.reserve(total);
  for (int32_t id = total - 1; id >= 0; --id) free_.push_back(id);
}

BlockAllocator::~BlockAllocator() { DESCANT_CHECK(used_ == 0); }

std::optional<Block> BlockAllocator::Allocate() {
  if (free_.empty()) return std::nullopt;
  const int32_t id = free_.back();
  free_.pop_back();
  state_[id] = State::kUsed;
  holds_[id] = 1;
  ++used_;
  return Block(this, id);
}

void BlockAllocator::Release(int32_t id) {
  DESCANT_CHECK(state_[id] == State::kUsed ||
                state_[id] == State::kUsedTainted);
  if (--holds_[id] > 0) return;
  if (state_[id] == State::kUsedTainted) {
    state_[id] = State::kTainted;
    tainted_.push_back(id);
  } else if (cached_[id]) {
    state_[id] = State::kIdle;
    idle_.Push(id, owners_[id]);
  } else {
    state_[id] = State::kFree;
    free_.push_back(id);
  }
  --used_;
}

void BlockAllocator::Cache(int32_t id, int32_t owner) {
  DESCANT_CHECK(state_[id] == State::kUsed && !cached_[id]);
  cached_[id] = true;
  owners_[id] = owner;
}

void BlockAllocator::Uncache(int32_t id) {
  DESCANT_CHECK(cached_[id]);
  cached_[id] = false;
  if (state_[id] != State::kIdle) return;
  idle_.Remove(id);
  state_[id] = State::kFree;
  free_.push_back(id);
}

Block BlockAllocator::Hold(int32_t id) {
  DESCANT_CHECK(cached_[id]);
  if (state_[id] == State::kIdle) {
    idle_.Remove(id);
    state_[id] = State::kUsed;
    ++used_;
  }
  ++holds_[id];
  return Block(this, id);
}

void BlockAllocator::ReturnTainted() {
  for (const int32_t id : tainted_) {
    state_[id] = State::kFree;
    free_.push_back(id);
  }
  tainted_.clear();
}

void BlockAllocator::CheckInvariants() const {
  std::vector<int> seen(state_.size(), 0);
  for (const int32_t id : free_) {
    DESCANT_CHECK(state_[id] == State::kFree);
    ++seen[id];
  }
  for (const int32_t id : tainted_) {
    DESCANT_CHECK(state_[id] == State::kTainted);
    ++seen[id];
  }
  idle_.CheckInvariants();
  idle_.ForEach([&](int32_t id, int32_t owner) {
    DESCANT_CHECK(state_[id] == State::kIdle && cached_[id]);
    DESCANT_CHECK(owners_[id] == owner);
    ++seen[id];
  });
  int32_t used = 0;
  for (size_t id = 0; id < state_.size(); ++id) {
    const bool held =
        state_[id] == State::kUsed || state_[id] == State::kUsedTainted;
    used += held ? 1 : 0;
    DESCANT_CHECK(held == (holds_[id] > 0));
    DESCANT_CHECK(!cached_[id] || state_[id] == State::kUsed ||
                  state_[id] == State::kIdle);
    DESCANT_CHECK(seen[id] == (held ? 0 : 1));
  }
  DESCANT_CHECK(used == used_);
}

}  // namespace descant
