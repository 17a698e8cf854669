// The adapters that operators keep on the device.
#ifndef DESCANT_SERVER_PINNED_ADAPTERS_H_
#define DESCANT_SERVER_PINNED_ADAPTERS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "adapters/adapter.h"
#include "adapters/name.h"
#include "adapters/registry.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"

namespace descant {

// A pin by name follows the name to its new versions; a pin by digest stays
// with that version. The engine knows digests only. Thread-safe.
class PinnedAdapters {
 public:
  // Called once, on the engine thread.
  using Done = std::function<void(const AdapterActionResult&)>;

  // Both outlive this.
  PinnedAdapters(Engine* engine, const AdapterRegistry* registry)
      : engine_(engine), registry_(registry) {}

  // Loads what `id` names in the tenant's namespace and keeps it loaded. An
  // error: `done` will not be called.
  absl::Status Pin(const std::string& tenant, const AdapterId& id, Done done);
  // OK where there is no pin.
  absl::Status Unpin(const std::string& tenant, const AdapterId& id, Done done);
  // Ends the pin and frees what the adapter takes.
  absl::Status Unload(const std::string& tenant, const AdapterId& id,
                      Done done);

  // Moves pins to the versions that their names stand for now; those of names
  // that are gone end. Called now and then.
  void Follow();

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, name

  absl::StatusOr<std::shared_ptr<const Adapter>> Forget(
      const std::string& tenant, const AdapterId& id);

  Engine* const engine_;
  const AdapterRegistry* const registry_;
  Mutex mutex_;
  std::map<Key, std::shared_ptr<const Adapter>> by_name_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_PINNED_ADAPTERS_H_
