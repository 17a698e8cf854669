// Cached blocks that nobody holds, by the tenant that they belong to, and whose
// goes first when memory is needed.
#ifndef DESCANT_RUNTIME_CORE_IDLE_BLOCKS_H_
#define DESCANT_RUNTIME_CORE_IDLE_BLOCKS_H_

#include <cstdint>
#include <vector>

namespace descant {

// Of the owners the one with most idle blocks for its weight loses next: an
// owner with at most its weighted share of the idle blocks never loses one to
// somebody who has more of them for his weight (weighted max-min fairness; what
// sequences hold is not counted). Within an
// owner the block that has been idle longest goes first, so one owner alone has
// plain LRU. O(log owners) a call; allocates in SetOwner only.
// Thread-compatible.
class IdleBlocks {
 public:
  // Block ids are [0, total).
  explicit IdleBlocks(int32_t total);

  // Owners are small numbers from 0, given anew by the caller when an owner has
  // no blocks. `weight` >= 1; `most`: idle blocks beyond so many are over();
  // 0: no limit. The values given last count.
  void SetOwner(int32_t owner, int32_t weight, int32_t most);

  // REQUIRES: SetOwner was called for it; the block is not idle.
  void Push(int32_t id, int32_t owner);
  // REQUIRES: the block is idle.
  void Remove(int32_t id);

  // The block to give up when one is needed; -1: there is none.
  int32_t next() const {
    return heap_.empty() ? -1 : owners_[heap_.front()].oldest;
  }
  // The longest idle one of an owner beyond its limit; -1: none is.
  int32_t over();

  int32_t size() const { return size_; }
  int32_t size(int32_t owner) const {
    return owner < static_cast<int32_t>(owners_.size()) ? owners_[owner].count
                                                        : 0;
  }

  template <typename Visit>  // void(int32_t id, int32_t owner)
  void ForEach(Visit visit) const {
    for (const int32_t owner : heap_) {
      for (int32_t id = owners_[owner].oldest; id >= 0; id = links_[id].newer) {
        visit(id, owner);
      }
    }
  }

  // Aborts when an invariant does not hold. O(total).
  void CheckInvariants() const;

 private:
  struct Link {
    int32_t older = -1;
    int32_t newer = -1;
    int32_t owner = -1;  // -1: not idle
    uint64_t since = 0;  // tick
  };
  struct Owner {
    int32_t oldest = -1;
    int32_t newest = -1;
    int32_t count = 0;
    int32_t weight = 1;
    int32_t most = 0;
    int32_t place = -1;   // in heap_; -1: it has no idle blocks
    bool listed = false;  // in over_
  };

  // Whether `a` loses before `b`; both have blocks.
  bool Before(int32_t a, int32_t b) const;
  void Settle(int32_t owner);
  void MoveUp(int32_t place);
  void MoveDown(int32_t place);
  void Put(int32_t place, int32_t owner);

  std::vector<Link> links_;  // by id
  std::vector<Owner> owners_;
  std::vector<int32_t> heap_;  // owners with blocks; the next loser in front
  std::vector<int32_t> over_;  // owners that may be over their limit
  uint64_t tick_ = 0;
  int32_t size_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_IDLE_BLOCKS_H_
