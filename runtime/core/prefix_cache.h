// Which full blocks hold the keys and values of which tokens, so that a prompt
// that begins as an earlier one did is not computed again.
#ifndef DESCANT_RUNTIME_CORE_PREFIX_CACHE_H_
#define DESCANT_RUNTIME_CORE_PREFIX_CACHE_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/adapter_key.h"
#include "runtime/core/batch.h"
#include "runtime/core/block_allocator.h"

namespace descant {

// A tree of blocks for each (tenant, adapter digest): another tenant's prompts,
// and those under other weights, are never found. A block's place is its
// parent and its tokens, which are compared, not only hashed. Blocks that
// nobody holds stay until memory is needed; then the tenant with most of them
// for its weight gives up the one that it has not used for longest
// (IdleBlocks). Thread-compatible.
class PrefixCache {
 public:
  // What a tenant may have of the blocks that nobody holds.
  struct Share {
    int32_t weight = 1;
    int32_t most = 0;  // whoever needs them or not; 0: no limit
  };

  // `blocks` outlives this.
  explicit PrefixCache(BlockAllocator* blocks);

  // How far along the tree a sequence is.
  struct Cursor {
    int32_t depth = 0;   // blocks behind it
    int32_t node = -1;   // the last one of them; -1 at the root
    uint32_t epoch = 0;  // of the node
    bool lost = false;   // it left the tree, and adds nothing any more
  };

  // Appends holds on the blocks of the longest known beginning of `tokens`, at
  // most `max_blocks`. The cursor behind the last one.
  Cursor Match(AdapterKeyView root, absl::Span<const int32_t> tokens,
               int32_t max_blocks, std::vector<Block>* blocks);

  // `block`, of kBlockSize `tokens`, follows `at`: it is final and sound. The
  // cursor behind it, also where another block with these tokens is known. Of
  // the shares given for a tenant the last one counts.
  Cursor Add(Cursor at, AdapterKeyView root, absl::Span<const int32_t> tokens,
             const Block& block, const Share& share);

  // Frees a block that nobody holds, and what follows it. False: there is none.
  bool Evict();
  // Frees what tenants have beyond their limits. To be called when holds on
  // blocks have ended.
  void Trim();

  // Every block that is known, and whose it is. O(blocks).
  template <typename Visit>  // void(int32_t id, const AdapterKey& root)
  void ForEachBlock(Visit visit) const {
    for (const Root& root : roots_) {
      VisitBelow(root.first_child, root.key, visit);
    }
  }

  // Aborts when an invariant does not hold. O(blocks).
  void CheckInvariants() const;

 private:
  static constexpr int32_t kNone = -1;
  // Parents: a block's id, or ~index of a root.
  struct Node {
    int32_t parent = kNone;
    int32_t first_child = kNone;
    int32_t previous = kNone;  // siblings
    int32_t next = kNone;
    uint32_t epoch = 0;  // changes when the block leaves the tree
    uint64_t hash = 0;
    std::array<int32_t, kBlockSize> tokens{};
  };
  struct Root {
    AdapterKey key;
    int32_t first_child = kNone;  // none: the entry is free
    int32_t owner = kNone;
  };
  struct Owner {
    std::string tenant;
    int32_t roots = 0;  // 0: the entry is free
  };
  using Place = std::pair<int32_t, uint64_t>;  // parent, hash of the tokens

  int32_t FindRoot(AdapterKeyView key) const;
  int32_t MakeRoot(AdapterKeyView key, const Share& share);
  void FreeRoot(int32_t index);
  int32_t EnterOwner(absl::string_view tenant);
  int32_t* FirstChildOf(int32_t parent);
  // The child with these tokens, kNone where there is none.
  int32_t FindChild(int32_t parent, uint64_t hash,
                    absl::Span<const int32_t> tokens) const;
  void Remove(int32_t id);

  // `first` and its siblings, and what is below them; a tree may be as deep as
  // the longest prompt has blocks.
  template <typename Visit>
  void VisitBelow(int32_t first, const AdapterKey& root, Visit& visit) const {
    std::vector<int32_t> open;
    if (first != kNone) open.push_back(first);
    while (!open.empty()) {
      const int32_t id = open.back();
      open.pop_back();
      visit(id, root);
      const Node& node = nodes_[id];
      if (node.next != kNone) open.push_back(node.next);
      if (node.first_child != kNone) open.push_back(node.first_child);
    }
  }

  BlockAllocator* const blocks_;
  std::vector<Node> nodes_;  // by block id
  absl::flat_hash_map<Place, int32_t> places_;
  std::vector<Root> roots_;
  std::vector<int32_t> free_roots_;
  AdapterKeyMap<int32_t> root_index_;
  std::vector<Owner> owners_;
  std::vector<int32_t> free_owners_;
  absl::flat_hash_map<std::string, int32_t> owner_index_;
  std::vector<int32_t> doomed_;  // scratch
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_PREFIX_CACHE_H_
