#include "runtime/adapter_actions.h"

#include <utility>

#include "adapters/error_reason.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

using absl::StatusCode;

// A load that waited so many steps for a slot holds back sequences that want
// one.
constexpr int32_t kStarvingPasses = 64;

bool LoadsDevice(AdapterAction what) {
  return what == AdapterAction::kLoadDevice || what == AdapterAction::kPin;
}

absl::Status AdaptersOff() {
  return ReasonedError(StatusCode::kFailedPrecondition, "ADAPTERS_OFF",
                       "this server serves no adapters", "adapter_id");
}

absl::Status ActionEnded() {
  return ReasonedError(StatusCode::kAborted, reason::kAdapterActionEnded,
                       "a later action on the adapter ended this one",
                       "adapter_id");
}

}  // namespace

void AdapterActions::Add(AdapterAction what,
                         std::shared_ptr<const Adapter> adapter, Done done) {
  auto action = std::make_unique<Action>();
  action->what = what;
  action->adapter = std::move(adapter);
  action->done = std::move(done);
  actions_.push_back(std::move(action));
}

void AdapterActions::Advance() {
  if (actions_.empty()) return;
  bool starving = false;
  // Steps may end actions before them, and add none.
  for (const auto& action : actions_) {
    if (!action->ended) Step(action.get());
    starving |= !action->ended && action->passes > kStarvingPasses;
  }
  scheduler_->HoldAdaptersBack(starving);
  TellEnded();
}

void AdapterActions::Step(Action* action) {
  const bool first = !std::exchange(action->begun, true);
  switch (action->what) {
    case AdapterAction::kLoadHost:
      return StepLoadHost(action);
    case AdapterAction::kPin:
      if (first && !BeginPin(action)) return;
      return StepLoadDevice(action);
    case AdapterAction::kLoadDevice:
      return StepLoadDevice(action);
    case AdapterAction::kUnload:
      if (first) BeginUnload(action);
      return StepUnload(action);
    case AdapterAction::kUnpin:
      EndPin(KeyOf(*action->adapter));
      return End(action, absl::OkStatus());
  }
}

void AdapterActions::StepLoadHost(Action* action) {
  const AdapterKeyView key = KeyOf(*action->adapter);
  if (scheduler_->slots().num_slots() == 0) {
    return End(action, AdaptersOff());
  }
  if (tiers_->OnHost(key)) return End(action, absl::OkStatus());
  if (tiers_->UnderWay(key)) return;
  const auto slot = scheduler_->slots().Find(key);
  if (slot && scheduler_->slots().retiring(*slot)) return;
  if (!tiers_->has_host()) {
    return End(
        action,
        ReasonedError(StatusCode::kFailedPrecondition, reason::kHostTierOff,
                      "this server keeps no adapters in host memory"));
  }
  if (std::exchange(action->fetched, true)) {
    return End(
        action,
        ReasonedError(StatusCode::kResourceExhausted, reason::kHostTierFull,
                      "host memory has no room for the adapter", "adapter_id"));
  }
  tiers_->Fetch(action->adapter);
}

void AdapterActions::StepLoadDevice(Action* action) {
  SlotTable& slots = scheduler_->slots();
  if (slots.num_slots() == 0) return End(action, AdaptersOff());
  if (!action->lease && !LeaseSlot(action)) return;
  const int32_t slot = action->lease->slot();
  if (slots.loaded(slot)) {
    if (action->pins) {
      pins_[AdapterKey(*action->adapter)] = std::move(action->lease);
      action->lease.reset();
      action->pins = false;
    }
    return End(action, absl::OkStatus());
  }
  if (slots.loading(slot)) {
    action->deferred_at = slots.releases() + 1;
    return;
  }
  // Its load found no memory: again when there may be some.
  if (action->deferred_at == slots.releases() + 1) {
    ++action->passes;
    return;
  }
  slots.BeginLoad(slot);
  tiers_->LoadSlot(slot);
  action->deferred_at = slots.releases() + 1;
}

bool AdapterActions::LeaseSlot(Action* action) {
  SlotTable& slots = scheduler_->slots();
  action->lease = slots.Acquire(action->adapter, LeaseKind::kHold);
  if (!action->lease) {
    ++action->passes;
    return false;
  }
  action->passes = 0;
  if (action->pins) slots.SetPinned(action->lease->slot(), true);
  return true;
}

bool AdapterActions::BeginPin(Action* action) {
  const AdapterKey key(*action->adapter);
  // Pinned already: this only waits until it is loaded.
  if (pins_.contains(key)) return true;
  if (pins() + 1 >= scheduler_->slots().num_slots()) {
    End(action,
        scheduler_->slots().num_slots() == 0
            ? AdaptersOff()
            : ReasonedError(StatusCode::kResourceExhausted,
                            reason::kAdapterPinsFull,
                            "one slot must stay free of pins", "adapter_id"));
    return false;
  }
  pins_.try_emplace(key);
  action->pins = true;
  tiers_->residency().SetPinned(*action->adapter, true);
  return true;
}

void AdapterActions::BeginUnload(Action* action) {
  const AdapterKeyView key = KeyOf(*action->adapter);
  EndPin(key);
  EndLoads(action);
  tiers_->ForgetFetch(key);
  SlotTable& slots = scheduler_->slots();
  if (const auto slot = slots.Find(key)) slots.Retire(*slot);
}

void AdapterActions::StepUnload(Action* action) {
  const AdapterKeyView key = KeyOf(*action->adapter);
  SlotTable& slots = scheduler_->slots();
  if (const auto slot = slots.Find(key); slot && slots.retiring(*slot)) {
    scheduler_->PreemptPausedOn(*slot);
    if (!slots.retired(*slot)) return;
    action->result.freed_device_bytes += tiers_->FreeRetired(*slot);
  } else if (!slot && tiers_->UnderWay(key)) {
    return;  // a fetch that had begun
  }
  action->result.freed_host_bytes += tiers_->DropHost(key);
  End(action, absl::OkStatus());
}

void AdapterActions::EndPin(AdapterKeyView key) {
  const auto pin = pins_.find(key);
  if (pin == pins_.end()) return;
  std::shared_ptr<const Adapter> adapter;
  if (pin->second) {
    const int32_t slot = pin->second->slot();
    adapter = scheduler_->slots().adapter(slot);
    scheduler_->slots().SetPinned(slot, false);
  }
  pins_.erase(pin);
  for (const auto& action : actions_) {
    if (!action->pins || !SameKey(KeyOf(*action->adapter), key)) continue;
    adapter = action->adapter;
    if (action->lease) {
      scheduler_->slots().SetPinned(action->lease->slot(), false);
    }
    action->pins = false;
    End(action.get(), ActionEnded());
  }
  tiers_->residency().SetPinned(*adapter, false);
}

void AdapterActions::EndLoads(const Action* action) {
  for (const auto& earlier : actions_) {
    if (earlier.get() == action) return;
    const bool loads =
        LoadsDevice(earlier->what) || earlier->what == AdapterAction::kLoadHost;
    if (!earlier->ended && loads &&
        SameKey(KeyOf(*earlier->adapter), KeyOf(*action->adapter))) {
      End(earlier.get(), ActionEnded());
    }
  }
}

void AdapterActions::LoadFailed(int32_t slot, const Adapter& adapter,
                                const absl::Status& status) {
  for (const auto& action : actions_) {
    if (action->ended || !SameKey(KeyOf(*action->adapter), KeyOf(adapter))) {
      continue;
    }
    const bool waits = LoadsDevice(action->what)
                           ? action->lease && action->lease->slot() == slot
                           : action->what == AdapterAction::kLoadHost &&
                                 !tiers_->OnHost(KeyOf(adapter));
    if (waits) Fail(action.get(), status);
  }
}

void AdapterActions::Fail(Action* action, const absl::Status& status) {
  if (action->pins) {
    if (action->lease) {
      scheduler_->slots().SetPinned(action->lease->slot(), false);
    }
    action->pins = false;
    pins_.erase(KeyOf(*action->adapter));
    tiers_->residency().SetPinned(*action->adapter, false);
  }
  End(action, status);
}

void AdapterActions::End(Action* action, absl::Status status) {
  action->result.status = std::move(status);
  action->ended = true;
  action->lease.reset();
}

void AdapterActions::TellEnded() {
  std::vector<std::unique_ptr<Action>> ended;
  std::erase_if(actions_, [&ended](std::unique_ptr<Action>& action) {
    if (!action->ended) return false;
    ended.push_back(std::move(action));
    return true;
  });
  for (const auto& action : ended) action->done(action->result);
}

void AdapterActions::FailAll(const absl::Status& status) {
  for (const auto& action : actions_) {
    if (!action->ended) Fail(action.get(), status);
  }
  TellEnded();
  for (auto& [key, lease] : pins_) {
    if (lease) scheduler_->slots().SetPinned(lease->slot(), false);
  }
  pins_.clear();
}

}  // namespace descant
