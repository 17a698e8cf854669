// Which version each (tenant, name) stands for, in memory.
#ifndef DESCANT_ADAPTERS_REGISTRY_H_
#define DESCANT_ADAPTERS_REGISTRY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"
#include "adapters/name.h"
#include "runtime/base/mutex.h"

namespace descant {

// What an entry can do for requests.
enum class AdapterState {
  kReady,
  kIncompatible,  // made for another base model
  kCorrupt,       // its stored bytes are damaged
};

struct RegistryEntry {
  AdapterInfo info;
  AdapterState state = AdapterState::kReady;
  std::shared_ptr<const Adapter> adapter;  // set where kReady; has a source
};

// How a publication treats a name that exists.
struct PublishCondition {
  bool replace = false;
  // The digest the name must have now ("" with a value: must not exist).
  std::optional<std::string> expected_digest;
};

enum class PublishOutcome {
  kCreated,
  kReplaced,
  kUnchanged  // the same digest again: idempotent
};

struct AdapterPage {
  std::vector<RegistryEntry> entries;  // by name
  std::string next_page_token;         // "" after the last page
};

inline constexpr int32_t kMaxPageSize = 1000;
inline constexpr int32_t kDefaultPageSize = 100;

// Thread-safe. Another tenant's name answers exactly as one that is not there.
class AdapterRegistry {
 public:
  // What Publish would do: ALREADY_EXISTS (another digest, no replace; or a
  // damaged or incompatible entry that would be replaced unasked), ABORTED
  // (expected_digest differs).
  absl::StatusOr<PublishOutcome> CheckPublish(
      absl::string_view tenant, absl::string_view name,
      absl::string_view digest, const PublishCondition& condition) const;

  absl::StatusOr<PublishOutcome> Publish(RegistryEntry entry,
                                         const PublishCondition& condition);

  // The adapter a request uses: NOT_FOUND (unknown name, or the pinned digest
  // is not the name's), FAILED_PRECONDITION ADAPTER_INCOMPATIBLE, DATA_LOSS.
  absl::StatusOr<std::shared_ptr<const Adapter>> Lookup(
      absl::string_view tenant, const AdapterId& id) const;

  // NOT_FOUND.
  absl::StatusOr<RegistryEntry> Get(absl::string_view tenant,
                                    absl::string_view name) const;
  absl::Status Remove(absl::string_view tenant, absl::string_view name);

  // `adapter`'s stored bytes turned out to be damaged: its entry, if the name
  // still stands for this very version, becomes kCorrupt.
  void Quarantine(const Adapter& adapter);

  // At most page_size entries (0: the default; negative or above kMaxPageSize
  // is INVALID_ARGUMENT), after `page_token` ("" or a former
  // next_page_token; forged is INVALID_ARGUMENT).
  absl::StatusOr<AdapterPage> List(absl::string_view tenant, int32_t page_size,
                                   absl::string_view page_token) const;

  // Entries of one tenant and their file bytes, for quotas; of all tenants.
  struct Usage {
    int64_t adapters = 0;
    uint64_t file_bytes = 0;
  };
  Usage UsageOf(absl::string_view tenant) const;
  Usage TotalUsage() const;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, name

  absl::StatusOr<PublishOutcome> CheckLocked(
      const Key& key, absl::string_view digest,
      const PublishCondition& condition) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::map<Key, RegistryEntry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_REGISTRY_H_
