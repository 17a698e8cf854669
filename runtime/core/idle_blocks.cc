#include "runtime/core/idle_blocks.h"

#include <utility>

#include "runtime/base/check.h"

namespace descant {

IdleBlocks::IdleBlocks(int32_t total) : links_(total) {}

void IdleBlocks::SetOwner(int32_t owner, int32_t weight, int32_t most) {
  DESCANT_CHECK(owner >= 0 && weight >= 1 && most >= 0);
  if (static_cast<size_t>(owner) >= owners_.size()) {
    owners_.resize(owner + 1);
    heap_.reserve(owners_.capacity());
    over_.reserve(owners_.capacity());
  }
  owners_[owner].weight = weight;
  owners_[owner].most = most;
  Settle(owner);
}

void IdleBlocks::Push(int32_t id, int32_t owner) {
  Link& link = links_[id];
  Owner& entry = owners_[owner];
  DESCANT_CHECK(link.owner < 0);
  link = {entry.newest, -1, owner, ++tick_};
  (entry.newest < 0 ? entry.oldest : links_[entry.newest].newer) = id;
  entry.newest = id;
  ++entry.count;
  ++size_;
  Settle(owner);
}

void IdleBlocks::Remove(int32_t id) {
  Link& link = links_[id];
  const int32_t owner = std::exchange(link.owner, -1);
  DESCANT_CHECK(owner >= 0);
  Owner& entry = owners_[owner];
  (link.older < 0 ? entry.oldest : links_[link.older].newer) = link.newer;
  (link.newer < 0 ? entry.newest : links_[link.newer].older) = link.older;
  --entry.count;
  --size_;
  Settle(owner);
}

int32_t IdleBlocks::over() {
  while (!over_.empty()) {
    Owner& entry = owners_[over_.back()];
    if (entry.most > 0 && entry.count > entry.most) return entry.oldest;
    entry.listed = false;
    over_.pop_back();
  }
  return -1;
}

bool IdleBlocks::Before(int32_t a, int32_t b) const {
  const Owner& one = owners_[a];
  const Owner& other = owners_[b];
  const int64_t left = int64_t{one.count} * other.weight;
  const int64_t right = int64_t{other.count} * one.weight;
  if (left != right) return left > right;
  return links_[one.oldest].since < links_[other.oldest].since;
}

// Its blocks, or what it may have, changed.
void IdleBlocks::Settle(int32_t owner) {
  Owner& entry = owners_[owner];
  if (entry.most > 0 && entry.count > entry.most && !entry.listed) {
    entry.listed = true;
    over_.push_back(owner);
  }
  if (entry.count > 0 && entry.place < 0) {
    heap_.push_back(owner);
    entry.place = static_cast<int32_t>(heap_.size()) - 1;
  } else if (entry.count == 0) {
    if (entry.place < 0) return;
    const int32_t place = std::exchange(entry.place, -1);
    const int32_t last = heap_.back();
    heap_.pop_back();
    if (last == owner) return;
    Put(place, last);
    owner = last;
  }
  MoveUp(owners_[owner].place);
  MoveDown(owners_[owner].place);
}

void IdleBlocks::Put(int32_t place, int32_t owner) {
  heap_[place] = owner;
  owners_[owner].place = place;
}

void IdleBlocks::MoveUp(int32_t place) {
  while (place > 0) {
    const int32_t parent = (place - 1) / 2;
    if (!Before(heap_[place], heap_[parent])) return;
    const int32_t owner = heap_[place];
    Put(place, heap_[parent]);
    Put(parent, owner);
    place = parent;
  }
}

void IdleBlocks::MoveDown(int32_t place) {
  const int32_t size = static_cast<int32_t>(heap_.size());
  while (true) {
    int32_t first = place;
    for (int32_t child = 2 * place + 1; child <= 2 * place + 2; ++child) {
      if (child < size && Before(heap_[child], heap_[first])) first = child;
    }
    if (first == place) return;
    const int32_t owner = heap_[place];
    Put(place, heap_[first]);
    Put(first, owner);
    place = first;
  }
}

void IdleBlocks::CheckInvariants() const {
  int32_t size = 0;
  for (const Link& link : links_) size += link.owner >= 0 ? 1 : 0;
  DESCANT_CHECK(size == size_);
  int32_t listed = 0;
  for (size_t place = 0; place < heap_.size(); ++place) {
    const int32_t owner = heap_[place];
    const Owner& entry = owners_[owner];
    DESCANT_CHECK(entry.place == static_cast<int32_t>(place));
    DESCANT_CHECK(place == 0 || !Before(owner, heap_[(place - 1) / 2]));
    int32_t count = 0;
    for (int32_t id = entry.oldest; id >= 0; id = links_[id].newer) {
      DESCANT_CHECK(links_[id].owner == owner);
      DESCANT_CHECK(links_[id].newer >= 0
                        ? links_[id].since < links_[links_[id].newer].since
                        : entry.newest == id);
      ++count;
    }
    DESCANT_CHECK(count > 0 && count == entry.count);
    listed += count;
  }
  DESCANT_CHECK(listed == size_);
}

}  // namespace descant
