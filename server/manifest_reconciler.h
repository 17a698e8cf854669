// Makes the store and the pins what the adapters' manifest declares.
#ifndef DESCANT_SERVER_MANIFEST_RECONCILER_H_
#define DESCANT_SERVER_MANIFEST_RECONCILER_H_

#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "runtime/base/fs.h"
#include "runtime/base/mutex.h"
#include "server/adapters_manifest.h"
#include "server/edge_context.h"

namespace descant {

// Thread-safe; one reconciliation at a time.
class ManifestReconciler {
 public:
  // `edge` outlives this.
  ManifestReconciler(EdgeContext* edge, std::string path)
      : edge_(edge), path_(std::move(path)) {}

  // Reads the file and brings about what it says, entry by entry: one that
  // fails is logged and counted, and the others go on. INVALID_ARGUMENT: the
  // file itself is bad, and nothing was changed.
  absl::Status Reconcile();

  // Of the last reconciliation.
  ManifestReport report() const;

 private:
  using Name = std::pair<std::string, std::string>;  // tenant, name

  // True where something changed.
  absl::StatusOr<bool> Apply(const ManifestEntry& entry);
  absl::StatusOr<bool> Remove(const ManifestEntry& entry);
  absl::StatusOr<bool> MakeCurrent(const ManifestEntry& entry);
  absl::StatusOr<bool> Store(const ManifestEntry& entry);
  absl::StatusOr<PublishResult> Upload(const UploadSpec& spec,
                                       const ReadableFile& file);
  absl::Status Pin(const ManifestEntry& entry);
  void EndFormerPins(const AdaptersManifest& manifest);

  EdgeContext* const edge_;
  const std::string path_;
  Mutex reconciling_;
  std::set<Name> pinned_ ABSL_GUARDED_BY(reconciling_);
  mutable Mutex mutex_;
  ManifestReport report_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_MANIFEST_RECONCILER_H_
