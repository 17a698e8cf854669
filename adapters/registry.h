// Which versions each (tenant, name) stands for, in memory.
#ifndef DESCANT_ADAPTERS_REGISTRY_H_
#define DESCANT_ADAPTERS_REGISTRY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"
#include "adapters/name.h"
#include "adapters/sharing.h"
#include "runtime/base/mutex.h"

namespace descant {

// What a version can do for requests.
enum class AdapterState {
  kReady,
  kIncompatible,  // made for another base model, or above this server's limits
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
  // The version the name must stand for now; 0: it must not exist. Implies
  // `replace`.
  std::optional<uint64_t> expected_version;
};

enum class PublishOutcome {
  kCreated,
  kReplaced,
  kUnchanged  // the same digest and labels again: idempotent
};

enum class RegistryChange {
  kPublished,  // the name stands for this version now
  kDeleted,    // the name and its versions are gone; this was the current one
  kStateChanged,
  kSharingChanged  // of the name
};

struct AdapterPage {
  std::vector<RegistryEntry> entries;  // current versions, by name
  std::string next_page_token;         // "" after the last page
  size_t total = 0;                    // on all pages
};

// A name that others may use.
struct SharedName {
  std::string owner;
  std::string name;
  AdapterSharing sharing;
};

// NOT_FOUND ADAPTER_NOT_FOUND: one answer for absent, foreign and deleted.
absl::Status AdapterNotFound();

inline constexpr int32_t kMaxPageSize = 1000;
inline constexpr int32_t kDefaultPageSize = 100;

// Thread-safe. Another tenant's name answers exactly as one that is not there.
// A name has versions, newest first; the newest is the current one. Takes about
// 700 bytes for each adapter of one version, and for one that is shared some
// hundred more and what its list of tenants takes.
//
// Where a look-up's id has an owner other than the tenant that asks, the name
// is there only while it is shared with that tenant.
class AdapterRegistry {
 public:
  using Listener = std::function<void(RegistryChange, const RegistryEntry&)>;
  // Told of every change, in order, under the registry's lock: it must not call
  // back and must be quick. Null: nobody. Changes before are not repeated.
  void SetListener(Listener listener);

  // What Publish would do with a version of this tenant, name, digest and
  // labels: ALREADY_EXISTS (another digest or other labels, no replace),
  // ABORTED (expected_version differs; field "expected_version").
  absl::StatusOr<PublishOutcome> CheckPublish(
      const AdapterInfo& info, const PublishCondition& condition) const;

  // Checks, then Put unless kUnchanged.
  absl::StatusOr<PublishOutcome> Publish(RegistryEntry entry,
                                         const PublishCondition& condition,
                                         size_t keep = 1);
  // Makes `entry` the current version of its name; the newest `keep` versions
  // (>= 1), itself included, remain. Those that fell off are added to
  // `trimmed`, if given.
  void Put(RegistryEntry entry, size_t keep,
           std::vector<RegistryEntry>* trimmed = nullptr);

  // The adapter a request uses: NOT_FOUND (unknown name, or the pinned digest
  // is of no kept version), FAILED_PRECONDITION ADAPTER_INCOMPATIBLE,
  // DATA_LOSS.
  absl::StatusOr<std::shared_ptr<const Adapter>> Lookup(
      absl::string_view tenant, const AdapterId& id) const;

  // The current version. NOT_FOUND.
  absl::StatusOr<RegistryEntry> Get(absl::string_view tenant,
                                    absl::string_view name) const;
  // The current version, or the newest kept one of the id's digest. NOT_FOUND.
  absl::StatusOr<RegistryEntry> Find(absl::string_view tenant,
                                     const AdapterId& id) const;
  // All that are kept, the current one first. NOT_FOUND.
  absl::StatusOr<std::vector<RegistryEntry>> Versions(
      absl::string_view tenant, absl::string_view name) const;

  // Every kept version of every tenant: by tenant, name, newest first.
  std::vector<AdapterInfo> AllVersions() const;
  // The one that follows in that order, whether or not these exist; nullopt at
  // the end. ("", "", 0) begins.
  std::optional<RegistryEntry> NextVersion(absl::string_view tenant,
                                           absl::string_view name,
                                           uint64_t version) const;

  // The name with all its versions, which are added to `removed`, if given,
  // newest first. NOT_FOUND.
  // It is shared with nobody any more.
  absl::Status Remove(absl::string_view tenant, absl::string_view name,
                      std::vector<RegistryEntry>* removed = nullptr);

  // Who but its owner may use the name from now on, until it is removed.
  // NOT_FOUND.
  absl::Status Share(absl::string_view tenant, absl::string_view name,
                     AdapterSharing sharing);
  // Nobody where there is no such name.
  AdapterSharing SharingOf(absl::string_view tenant,
                           absl::string_view name) const;
  // All names that are shared, in order of "owner/name".
  std::vector<SharedName> AllShared() const;
  // As List, those of others that `tenant` may use, in order of "owner/name".
  // Looks at every shared name.
  absl::StatusOr<AdapterPage> ListShared(absl::string_view tenant,
                                         int32_t page_size,
                                         absl::string_view page_token) const;

  // The stored bytes of `adapter` turned out to be damaged: every version that
  // is read from the same source becomes kCorrupt. Versions repaired meanwhile
  // have another source and stay.
  void Quarantine(const Adapter& adapter);
  void Quarantine(absl::string_view tenant, const AdapterSource* source);
  // The bytes of this digest are sound (again): the tenant's damaged versions
  // of it are read from `source`, and are ready where they were made for the
  // base model of that fingerprint.
  void Restore(absl::string_view tenant, absl::string_view digest,
               const std::shared_ptr<const AdapterSource>& source,
               uint64_t file_bytes, absl::string_view base_fingerprint);

  // At most page_size entries (0: the default; negative or above kMaxPageSize
  // is INVALID_ARGUMENT), after `page_token` ("" or a former
  // next_page_token; forged is INVALID_ARGUMENT).
  absl::StatusOr<AdapterPage> List(absl::string_view tenant, int32_t page_size,
                                   absl::string_view page_token) const;

  // Of one tenant; of all tenants. Kept as things change, never counted.
  struct Usage {
    int64_t adapters = 0;  // names
    int64_t versions = 0;
    uint64_t file_bytes = 0;  // of all versions
    int64_t damaged = 0;      // versions
  };
  Usage UsageOf(absl::string_view tenant) const;
  Usage TotalUsage() const;

 private:
  // Equal texts of many versions, once. Texts nobody uses are dropped when
  // there are twice as many as were in use.
  class TextPool {
   public:
    std::shared_ptr<const std::string> Intern(absl::string_view text);

   private:
    struct Less {
      using is_transparent = void;
      static absl::string_view Of(absl::string_view text) { return text; }
      static absl::string_view Of(
          const std::shared_ptr<const std::string>& text) {
        return *text;
      }
      template <typename A, typename B>
      bool operator()(const A& a, const B& b) const {
        return Of(a) < Of(b);
      }
    };
    std::set<std::shared_ptr<const std::string>, Less> texts_;
    size_t sweep_at_ = 16;
  };

  // A RegistryEntry in little memory: tenant, name, digest, rank, kinds and
  // time are those of the handle, which is kept whatever the state.
  struct Version {
    std::shared_ptr<const Adapter> adapter;  // never null
    std::shared_ptr<const std::string> base_fingerprint;
    std::shared_ptr<const std::string> base_model_name;
    std::shared_ptr<const AdapterLabels> labels;  // null: none
    uint64_t number = 0;
    uint64_t file_bytes = 0;
    uint64_t parameters = 0;
    int32_t num_modules = 0;
    AdapterState state = AdapterState::kReady;
  };
  using History = absl::InlinedVector<Version, 1>;  // newest first, not empty
  struct Tenant {
    std::map<std::string, History, std::less<>> names;
    Usage usage;
  };
  using Tenants = std::map<std::string, Tenant, std::less<>>;
  struct Shared {
    size_t owner_bytes = 0;  // of the key
    AdapterSharing sharing;
  };

  static absl::StatusOr<size_t> PageLimit(int32_t page_size);
  Version Pack(RegistryEntry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static RegistryEntry Unpack(const Version& version);
  // Null where there is none.
  const History* FindLocked(absl::string_view tenant,
                            absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null unless the name has a version that `id` means, for this tenant.
  const Version* FindVersionLocked(absl::string_view tenant,
                                   const AdapterId& id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<PublishOutcome> CheckLocked(
      const AdapterInfo& info, const PublishCondition& condition) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The versions that fell off are moved to `dropped`.
  void PutLocked(RegistryEntry entry, size_t keep, History* dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayUseLocked(absl::string_view tenant, absl::string_view owner,
                    absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Adds or takes away a version of `tenant` in both sums; and a name.
  void CountVersion(Tenant* tenant, const Version& version, int sign)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountName(Tenant* tenant, int sign)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Notify(RegistryChange change, const Version& version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void QuarantineLocked(absl::string_view tenant,
                        const std::function<bool(const Adapter&)>& damaged)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  Tenants tenants_ ABSL_GUARDED_BY(mutex_);
  // By "owner/name"; of names that are there, not with nobody.
  std::map<std::string, Shared, std::less<>> shared_ ABSL_GUARDED_BY(mutex_);
  Usage total_ ABSL_GUARDED_BY(mutex_);
  TextPool texts_ ABSL_GUARDED_BY(mutex_);
  Listener listener_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_REGISTRY_H_
