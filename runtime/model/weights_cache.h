// Packed weights on disk, so that the next start need not pack them again.
//
// One file a key: a header page, the key, then the arena's bytes from
// `kDataOffset` on. Little-endian header:
//   "DSCPACK1", u64 bytes of the arena, u32 bytes of the key, u32 chunks,
//   u32 CRC32C of each chunk of 8 MiB, the key, u32 CRC32C of all before.
// The folder must be the user's own: whoever writes there chooses the weights.
#ifndef DESCANT_RUNTIME_MODEL_WEIGHTS_CACHE_H_
#define DESCANT_RUNTIME_MODEL_WEIGHTS_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/base/fs.h"
#include "runtime/kernels/worker_pool.h"

namespace descant {

// Files that stay in the folder: a write drops those used longest ago.
inline constexpr int32_t kCachedWeights = 4;

// Thread-compatible; any number of processes may use one folder at once.
class WeightsCache {
 public:
  // `directory` empty: off. `fs` outlives this.
  WeightsCache(Fs* fs, std::string directory)
      : fs_(fs), directory_(std::move(directory)) {}

  bool enabled() const { return !directory_.empty(); }

  // Fills `arena` from the file of `key`, on all workers: each reads and checks
  // whole chunks, so that their pages are local to who reads them first.
  // NOT_FOUND; DATA_LOSS: damaged, truncated, another format or size (`arena`
  // is then anything); errors of the file.
  absl::Status Read(absl::string_view key, kernels::WorkerPool* pool,
                    absl::Span<std::byte> arena) const;

  // Writes the file, whole or not at all, and drops the oldest ones. Ends early
  // with CANCELLED when `*stop` becomes true.
  absl::Status Write(absl::string_view key, absl::Span<const std::byte> arena,
                     const std::atomic<bool>* stop) const;

  // The file's path, made of the key's digest.
  std::string PathOf(absl::string_view key) const;

 private:
  absl::Status WriteFile(const std::string& path, absl::string_view key,
                         absl::Span<const std::byte> arena,
                         const std::atomic<bool>* stop) const;
  void DropOldest() const;

  Fs* const fs_;
  const std::string directory_;
};

// $XDG_CACHE_HOME/descant or ~/.cache/descant; "" where there is no home.
std::string DefaultWeightsCache();

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_WEIGHTS_CACHE_H_
