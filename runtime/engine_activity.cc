#include "runtime/engine_activity.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "adapters/adapter_key.h"

namespace descant {
namespace {

class Census {
 public:
  explicit Census(const Scheduler& scheduler)
      : scheduler_(scheduler), counted_(scheduler.blocks().total()) {}

  EngineActivity Take() {
    scheduler_.ForEachGroup(
        [this](const SequenceGroup& group) { Count(group); });
    CountSlots();
    scheduler_.prefix_cache().ForEachBlock(
        [this](int32_t id, const AdapterKey& root) {
          if (scheduler_.blocks().holds(id) > 0) return;
          ++tenants_[root.tenant].blocks_cached;
        });
    EngineActivity activity;
    for (auto& [tenant, counts] : tenants_) {
      counts.tenant = tenant;
      activity.tenants.push_back(std::move(counts));
    }
    for (auto& [key, counts] : adapters_) {
      activity.adapters.push_back(std::move(counts));
    }
    std::stable_sort(activity.adapters.begin(), activity.adapters.end(),
                     [](const AdapterActivity& a, const AdapterActivity& b) {
                       return std::make_tuple(a.running, a.waiting) >
                              std::make_tuple(b.running, b.waiting);
                     });
    return activity;
  }

 private:
  AdapterActivity* EntryOf(const Adapter& adapter) {
    AdapterActivity& counts = adapters_[std::make_tuple(
        adapter.tenant, adapter.name, adapter.digest)];
    counts.tenant = adapter.tenant;
    counts.name = adapter.name;
    counts.digest = adapter.digest;
    return &counts;
  }

  int32_t CountOnce(const std::vector<Block>& blocks) {
    int32_t count = 0;
    for (const Block& block : blocks) {
      if (counted_[block.id()]) continue;
      counted_[block.id()] = true;
      ++count;
    }
    return count;
  }

  void Count(const SequenceGroup& group) {
    TenantActivity& tenant = tenants_[group.request.tenant];
    int32_t running = 0;
    int32_t waiting = group.to_come;
    tenant.blocks_used += CountOnce(group.prompt_blocks);
    for (const auto& sequence : group.sequences) {
      tenant.blocks_used += CountOnce(sequence->blocks);
      running += sequence->state == SequenceState::kRunning ? 1 : 0;
      waiting += sequence->state == SequenceState::kWaiting ||
                         sequence->state == SequenceState::kPreempted
                     ? 1
                     : 0;
    }
    tenant.running += running;
    tenant.waiting += waiting;
    if (group.request.adapter == nullptr) return;
    AdapterActivity* adapter = EntryOf(*group.request.adapter);
    adapter->running += running;
    adapter->waiting += waiting;
  }

  void CountSlots() {
    const SlotTable& slots = scheduler_.slots();
    for (int32_t slot = 0; slot < slots.num_slots(); ++slot) {
      const auto& adapter = slots.adapter(slot);
      if (adapter != nullptr) ++tenants_[adapter->tenant].slots_used;
    }
  }

  const Scheduler& scheduler_;
  std::vector<bool> counted_;  // by block
  std::map<std::string, TenantActivity> tenants_;
  std::map<std::tuple<std::string, std::string, std::string>, AdapterActivity>
      adapters_;
};

}  // namespace

EngineActivity ActivityOf(const Scheduler& scheduler) {
  return Census(scheduler).Take();
}

}  // namespace descant
