#include "runtime/core/prefix_cache.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "runtime/base/check.h"

namespace descant {

PrefixCache::PrefixCache(BlockAllocator* blocks) : blocks_(blocks) {
  nodes_.resize(blocks->total());
  // Twice: no growth, whatever comes and goes.
  places_.reserve(size_t{2} * blocks->total());
  doomed_.reserve(blocks->total());
}

PrefixCache::Cursor PrefixCache::Match(AdapterKeyView root,
                                       absl::Span<const int32_t> tokens,
                                       int32_t max_blocks,
                                       std::vector<Block>* blocks) {
  Cursor cursor;
  const int32_t root_id = FindRoot(root);
  if (root_id == kNone) return cursor;
  int32_t parent = ~root_id;
  while (cursor.depth < max_blocks) {
    const auto chunk =
        tokens.subspan(size_t{kBlockSize} * cursor.depth, size_t{kBlockSize});
    if (chunk.size() < size_t{kBlockSize}) break;
    const int32_t child = FindChild(parent, absl::HashOf(chunk), chunk);
    if (child == kNone) break;
    blocks->push_back(blocks_->Hold(child));
    parent = child;
    cursor = {cursor.depth + 1, child, nodes_[child].epoch, false};
  }
  return cursor;
}

PrefixCache::Cursor PrefixCache::Add(Cursor at, AdapterKeyView root,
                                     absl::Span<const int32_t> tokens,
                                     const Block& block, const Share& share) {
  DESCANT_CHECK(tokens.size() == size_t{kBlockSize} && !at.lost);
  if (at.node != kNone && nodes_[at.node].epoch != at.epoch) {
    at.lost = true;  // what it follows was evicted
    return at;
  }
  const int32_t parent = at.node != kNone ? at.node : ~MakeRoot(root, share);
  const uint64_t hash = absl::HashOf(tokens);
  const auto [place, is_new] =
      places_.try_emplace(Place{parent, hash}, block.id());
  const int32_t id = place->second;
  Node& node = nodes_[id];
  if (is_new) {
    node.parent = parent;
    node.hash = hash;
    std::copy(tokens.begin(), tokens.end(), node.tokens.begin());
    int32_t* first = FirstChildOf(parent);
    node.next = *first;
    if (node.next != kNone) nodes_[node.next].previous = id;
    *first = id;
    blocks_->Cache(
        id, parent >= 0 ? blocks_->owner(parent) : roots_[~parent].owner);
  } else if (!std::equal(tokens.begin(), tokens.end(), node.tokens.begin())) {
    at.lost = true;  // other tokens with this hash
    return at;
  }
  return {at.depth + 1, id, node.epoch, false};
}

bool PrefixCache::Evict() {
  const int32_t id = blocks_->idle_blocks().next();
  if (id == kNone) return false;
  Remove(id);
  return true;
}

void PrefixCache::Trim() {
  IdleBlocks& idle = blocks_->idle_blocks();
  for (int32_t id = idle.over(); id != kNone; id = idle.over()) Remove(id);
}

// Nobody could find what follows a block that is gone.
void PrefixCache::Remove(int32_t id) {
  int32_t empty_root = kNone;
  doomed_.assign(1, id);
  while (!doomed_.empty()) {
    const int32_t last = doomed_.back();
    doomed_.pop_back();
    Node& node = nodes_[last];
    for (int32_t c = node.first_child; c != kNone; c = nodes_[c].next) {
      doomed_.push_back(c);
    }
    places_.erase(Place{node.parent, node.hash});
    if (last == id) {
      int32_t* first = FirstChildOf(node.parent);
      if (*first == id) *first = node.next;
      if (node.previous != kNone) nodes_[node.previous].next = node.next;
      if (node.next != kNone) nodes_[node.next].previous = node.previous;
      if (node.parent < 0 && *first == kNone) empty_root = ~node.parent;
    }
    const uint32_t epoch = node.epoch + 1;
    node = {};
    node.epoch = epoch;
    blocks_->Uncache(last);
  }
  if (empty_root != kNone) FreeRoot(empty_root);
}

int32_t PrefixCache::FindRoot(AdapterKeyView key) const {
  const auto found = root_index_.find(key);
  return found == root_index_.end() ? kNone : found->second;
}

int32_t PrefixCache::MakeRoot(AdapterKeyView key, const Share& share) {
  IdleBlocks& idle = blocks_->idle_blocks();
  if (const int32_t found = FindRoot(key); found != kNone) {
    idle.SetOwner(roots_[found].owner, share.weight, share.most);
    return found;
  }
  int32_t index = static_cast<int32_t>(roots_.size());
  if (free_roots_.empty()) {
    roots_.emplace_back();
  } else {
    index = free_roots_.back();
    free_roots_.pop_back();
  }
  Root& root = roots_[index];
  root.key = AdapterKey(std::string(key.tenant), std::string(key.digest));
  root.owner = EnterOwner(key.tenant);
  ++owners_[root.owner].roots;
  idle.SetOwner(root.owner, share.weight, share.most);
  root_index_.emplace(root.key, index);
  return index;
}

// REQUIRES: none of its blocks is cached any more.
void PrefixCache::FreeRoot(int32_t index) {
  Root& root = roots_[index];
  Owner& owner = owners_[root.owner];
  if (--owner.roots == 0) {
    owner_index_.erase(owner.tenant);
    owner.tenant.clear();
    free_owners_.push_back(root.owner);
  }
  root_index_.erase(root.key);
  root = {};
  free_roots_.push_back(index);
}

int32_t PrefixCache::EnterOwner(absl::string_view tenant) {
  const auto found = owner_index_.find(tenant);
  if (found != owner_index_.end()) return found->second;
  int32_t index = static_cast<int32_t>(owners_.size());
  if (free_owners_.empty()) {
    owners_.emplace_back();
  } else {
    index = free_owners_.back();
    free_owners_.pop_back();
  }
  owners_[index].tenant = std::string(tenant);
  owner_index_.emplace(owners_[index].tenant, index);
  return index;
}

int32_t* PrefixCache::FirstChildOf(int32_t parent) {
  return parent >= 0 ? &nodes_[parent].first_child
                     : &roots_[~parent].first_child;
}

int32_t PrefixCache::FindChild(int32_t parent, uint64_t hash,
                               absl::Span<const int32_t> tokens) const {
  const auto found = places_.find(Place{parent, hash});
  if (found == places_.end()) return kNone;
  const auto& known = nodes_[found->second].tokens;
  return std::equal(tokens.begin(), tokens.end(), known.begin()) ? found->second
                                                                 : kNone;
}

void PrefixCache::CheckInvariants() const {
  for (const auto& [place, id] : places_) {
    const Node& node = nodes_[id];
    DESCANT_CHECK(place == Place(node.parent, node.hash));
    DESCANT_CHECK(blocks_->cached(id));
    if (node.parent < 0) {
      const Root& root = roots_[~node.parent];
      DESCANT_CHECK(FindRoot(root.key) == ~node.parent);
      DESCANT_CHECK(root.first_child != kNone);
      DESCANT_CHECK(owners_[root.owner].tenant == root.key.tenant);
      DESCANT_CHECK(blocks_->owner(id) == root.owner);
    } else {
      DESCANT_CHECK(blocks_->cached(node.parent));
      DESCANT_CHECK(blocks_->owner(node.parent) == blocks_->owner(id));
    }
    for (int32_t c = node.first_child; c != kNone; c = nodes_[c].next) {
      DESCANT_CHECK(nodes_[c].parent == id);
    }
  }
  int32_t cached = 0;
  for (int32_t id = 0; id < blocks_->total(); ++id) {
    cached += blocks_->cached(id) ? 1 : 0;
  }
  DESCANT_CHECK(cached == static_cast<int32_t>(places_.size()));
  DESCANT_CHECK(roots_.size() == root_index_.size() + free_roots_.size());
  DESCANT_CHECK(owners_.size() == owner_index_.size() + free_owners_.size());
}

}  // namespace descant
