#include "server/pinned_adapters.h"

#include <vector>

#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

void IgnoreResult(const AdapterActionResult&) {}

void LogFailure(const AdapterActionResult& result) {
  if (!result.status.ok()) {
    LogWarning("a pinned adapter's new version is not on the device: ",
               std::string(result.status.message()));
  }
}

}  // namespace

absl::Status PinnedAdapters::Pin(const std::string& tenant, const AdapterId& id,
                                 Done done) {
  DESCANT_ASSIGN_OR_RETURN(const std::shared_ptr<const Adapter> adapter,
                           registry_->Lookup(tenant, id));
  std::shared_ptr<const Adapter> former;
  if (id.digest.empty()) {
    MutexLock lock(&mutex_);
    former = std::exchange(by_name_[{tenant, id.name}], adapter);
  }
  if (former != nullptr && former->digest != adapter->digest) {
    engine_->Manage(AdapterAction::kUnpin, former, IgnoreResult);
  }
  engine_->Manage(AdapterAction::kPin, adapter,
                  [this, key = Key(tenant, id.name), adapter,
                   done = std::move(done)](const AdapterActionResult& result) {
                    if (!result.status.ok()) {
                      MutexLock lock(&mutex_);
                      const auto it = by_name_.find(key);
                      if (it != by_name_.end() && it->second == adapter)
                        by_name_.erase(it);
                    }
                    done(result);
                  });
  return absl::OkStatus();
}

// The adapter that `id` names, or that is pinned under the name, even if the
// name has gone since.
absl::StatusOr<std::shared_ptr<const Adapter>> PinnedAdapters::Forget(
    const std::string& tenant, const AdapterId& id) {
  MutexLock lock(&mutex_);
  const auto it = by_name_.find({tenant, id.name});
  if (it != by_name_.end() &&
      (id.digest.empty() || it->second->digest == id.digest)) {
    std::shared_ptr<const Adapter> pinned = std::move(it->second);
    by_name_.erase(it);
    return pinned;
  }
  return registry_->Lookup(tenant, id);
}

absl::Status PinnedAdapters::Unpin(const std::string& tenant,
                                   const AdapterId& id, Done done) {
  DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const Adapter> adapter,
                           Forget(tenant, id));
  engine_->Manage(AdapterAction::kUnpin, std::move(adapter), std::move(done));
  return absl::OkStatus();
}

absl::Status PinnedAdapters::Unload(const std::string& tenant,
                                    const AdapterId& id, Done done) {
  DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const Adapter> adapter,
                           Forget(tenant, id));
  engine_->Manage(AdapterAction::kUnload, std::move(adapter), std::move(done));
  return absl::OkStatus();
}

void PinnedAdapters::Follow() {
  std::vector<std::pair<AdapterAction, std::shared_ptr<const Adapter>>> actions;
  {
    MutexLock lock(&mutex_);
    for (auto it = by_name_.begin(); it != by_name_.end();) {
      const auto& [tenant, name] = it->first;
      const auto current = registry_->Lookup(tenant, AdapterId{name, ""});
      if (absl::IsNotFound(current.status())) {
        actions.emplace_back(AdapterAction::kUnpin, std::move(it->second));
        it = by_name_.erase(it);
        continue;
      }
      // A version that can't be served: the pin stays with the one before.
      if (current.ok() && (*current)->digest != it->second->digest) {
        actions.emplace_back(AdapterAction::kUnpin, std::move(it->second));
        actions.emplace_back(AdapterAction::kPin, *current);
        it->second = *current;
      }
      ++it;
    }
  }
  for (auto& [action, adapter] : actions) {
    engine_->Manage(action, std::move(adapter), LogFailure);
  }
}

}  // namespace descant
