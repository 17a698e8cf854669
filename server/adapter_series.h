// Per-adapter counters under a cap: the label set that tenants can make is
// unbounded, the page is not.
#ifndef DESCANT_SERVER_ADAPTER_SERIES_H_
#define DESCANT_SERVER_ADAPTER_SERIES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "prometheus/metric_family.h"
#include "runtime/base/mutex.h"

namespace descant {

// The busiest `max_series` adapters have series of their own, the rest share
// the label "other". An adapter that overtakes the least busy one takes its
// place; its series starts at zero then, which readers of counters know as a
// reset, and no counter ever counts a request twice. Thread-safe.
class AdapterSeries {
 public:
  explicit AdapterSeries(size_t max_series) : max_series_(max_series) {}

  // `adapter` is the label: a name, or "base".
  void Record(absl::string_view adapter, absl::string_view digest, bool failed,
              uint64_t prompt_tokens, uint64_t generated_tokens);
  // Ends the adapter's series.
  void Forget(absl::string_view adapter);

  // descant_adapter_{requests,failures,prompt_tokens,generated_tokens}_total
  // and descant_adapter_info.
  void Collect(std::vector<prometheus::MetricFamily>* families) const;

 private:
  struct Counts {
    std::string digest;  // the last one used
    uint64_t requests = 0;
    uint64_t failures = 0;
    uint64_t prompt_tokens = 0;
    uint64_t generated_tokens = 0;
  };
  using Map = std::map<std::string, Counts>;

  Counts* Find(const std::string& adapter)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_series_;
  mutable Mutex mutex_;
  Map tracked_ ABSL_GUARDED_BY(mutex_);
  Counts other_ ABSL_GUARDED_BY(mutex_);
  bool any_other_ ABSL_GUARDED_BY(mutex_) = false;
  // Requests of adapters without series; cleared when it grows past the cap.
  std::map<std::string, uint64_t> candidates_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTER_SERIES_H_
