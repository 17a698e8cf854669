// Reads stored adapters again and again, slowly, so that damage is found before
// a request finds it.
#ifndef DESCANT_ADAPTERS_STORE_SCRUBBER_H_
#define DESCANT_ADAPTERS_STORE_SCRUBBER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "adapters/store.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"

namespace descant {

struct ScrubberOptions {
  uint64_t bytes_per_second = 16 << 20;  // 0: never reads
  // From the end of a walk over all versions to the beginning of the next.
  Duration interval = std::chrono::hours(24);
};

// Has no thread of its own: whoever calls Tick lends it one. What is damaged is
// quarantined. The pointers must outlive it.
class StoreScrubber {
 public:
  StoreScrubber(AdapterStore* store, const Clock* clock,
                const ScrubberOptions& options);

  // Reads what the time since the last call allows, at most a second's worth
  // (and at least one piece of 256 KiB). One thread.
  void Tick();

  struct Progress {
    uint64_t walks = 0;  // that are complete
    uint64_t versions = 0;
    uint64_t damaged = 0;
    uint64_t bytes = 0;
  };
  // Since the start. Any thread.
  Progress progress() const;

 private:
  // Opens the next version that can be read; false at the walk's end.
  bool OpenNext();
  // A piece of the open version.
  uint64_t ReadPiece();
  void End(const absl::Status& status);

  AdapterStore* const store_;
  const Clock* const clock_;
  const ScrubberOptions options_;

  MonotonicTime last_tick_;
  MonotonicTime next_walk_;
  double allowance_ = 0;  // bytes
  // Where the walk is: the version that was opened last.
  std::string tenant_;
  std::string name_;
  std::string digest_;
  uint64_t version_ = 0;
  std::unique_ptr<StoredFiles> files_;
  uint64_t offset_ = 0;
  std::string buffer_;

  mutable Mutex mutex_;
  Progress progress_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORE_SCRUBBER_H_
