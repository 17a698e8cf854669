// The adapters that an operator declares: --adapters-manifest.
#ifndef DESCANT_SERVER_ADAPTERS_MANIFEST_H_
#define DESCANT_SERVER_ADAPTERS_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"
#include "server/tenants.h"

namespace descant {

// One name and what it shall stand for: exactly one of directory, file, digest
// and absent is set.
struct ManifestEntry {
  std::string tenant;  // "" where tenants are off
  std::string name;
  std::string directory;  // of the PEFT pair, on the server
  std::string file;       // a GGUF LoRA file
  std::string digest;     // "sha256:<hex>" of a version that is stored
  bool absent = false;    // the name must not exist
  bool pinned = false;    // kept on the device
  AdapterLabels labels;
};

// The content of a manifest:
//
//   adapters:
//     - name: sentiment
//       tenant: acme                 # only where there are tenants
//       directory: /models/sentiment # or file:, or digest:, or absent: true
//       pinned: true
//       labels: {team: search}
//
// Paths are the operator's, relative ones to the manifest's own folder. A name
// that is not in it is left alone: only `absent: true` removes one.
struct AdaptersManifest {
  std::vector<ManifestEntry> entries;

  // Strict: unknown and duplicate keys, a name given twice, an unknown tenant.
  // `tenants` is null where tenants are off. INVALID_ARGUMENT, one line that
  // begins with `path`.
  static absl::StatusOr<AdaptersManifest> Load(const std::string& path,
                                               absl::string_view model_name,
                                               const TenantDirectory* tenants);
  // The same from the file's content.
  static absl::StatusOr<AdaptersManifest> Parse(const std::string& content,
                                                const std::string& path,
                                                absl::string_view model_name,
                                                const TenantDirectory* tenants);
};

// What bringing a manifest about left.
struct ManifestReport {
  int32_t in_place = 0;  // entries that are as declared
  int32_t changed = 0;   // of these, just now
  int32_t failed = 0;
  bool stale = false;  // the file was bad: the one before it counts
};

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTERS_MANIFEST_H_
