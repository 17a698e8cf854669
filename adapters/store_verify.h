// A check of a store's directory without a server and without a base model.
#ifndef DESCANT_ADAPTERS_STORE_VERIFY_H_
#define DESCANT_ADAPTERS_STORE_VERIFY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/store.h"
#include "runtime/base/fs.h"

namespace descant {

inline constexpr size_t kMaxListedExtraFiles = 100;

struct StoreVerification {
  int32_t format = 0;
  // False: a server may be writing. Then what it removes or stages meanwhile
  // shows as missing or extra.
  bool locked = false;
  int64_t adapters = 0;  // names
  int64_t versions = 0;
  int64_t damaged = 0;     // versions
  int64_t unreadable = 0;  // versions, of which nothing is known
  uint64_t bytes = 0;      // that were read
  uint64_t journal_bytes = 0;
  uint64_t torn_journal_bytes = 0;  // behind the valid prefix
  // What no version refers to; paths in the directory, escaped for a terminal.
  int64_t extra_files = 0;
  std::vector<std::string> extra_paths;  // the first kMaxListedExtraFiles

  // Extra files and a torn tail are what a crash leaves: no damage.
  bool sound() const { return damaged == 0 && unreadable == 0; }
};

// Reads FORMAT, the journal and every blob; changes nothing. Takes a shared
// lock where it can, so that no server starts meanwhile. `on_version` is called
// for each version, by tenant, name, oldest first. NOT_FOUND (no store),
// FAILED_PRECONDITION STORE_FORMAT_NEWER, DATA_LOSS STORE_CORRUPT.
absl::StatusOr<StoreVerification> VerifyStoreDirectory(
    Fs* fs, const std::string& directory,
    const std::function<void(const VerifyResult&)>& on_version);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORE_VERIFY_H_
