// Builds merged weights, and frees them, on a thread of its own.
#ifndef DESCANT_RUNTIME_MERGE_BUILDER_H_
#define DESCANT_RUNTIME_MERGE_BUILDER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "runtime/base/mutex.h"
#include "runtime/model/merged_weights.h"
#include "runtime/model/runner.h"

namespace descant {

struct BuiltWeights {
  absl::StatusOr<std::shared_ptr<const MergedWeights>> weights =
      absl::UnknownError("not built");
  double seconds = 0;  // of one core
};

// One build at a time, behind the steps that run. Thread-safe.
class MergeBuilder {
 public:
  // `wake` is called on the builder's thread when a build has ended, and every
  // few seconds while SetTicks holds. `runner` outlives this.
  MergeBuilder(const Runner* runner, std::function<void()> wake);
  MergeBuilder(const MergeBuilder&) = delete;
  MergeBuilder& operator=(const MergeBuilder&) = delete;
  ~MergeBuilder() { Stop(); }

  // Reads the adapter's tensors, where it has none, and merges them. REQUIRES:
  // the build before it was taken.
  void Build(std::shared_ptr<const Adapter> adapter);
  // What has ended, if anything.
  std::optional<BuiltWeights> Take();
  // Frees the memory, unless others use it: unmapping takes time.
  void Discard(std::shared_ptr<const MergedWeights> weights);

  void SetStepsRun(bool run) {
    steps_run_.store(run, std::memory_order_relaxed);
  }
  void SetTicks(bool ticks);

  // Waits for the build at hand. Nothing else after it.
  void Stop();

 private:
  void Run();
  BuiltWeights BuildNow(std::shared_ptr<const Adapter> adapter) const;

  const Runner* const runner_;
  const std::function<void()> wake_;
  std::atomic<bool> steps_run_{false};
  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<const Adapter> wanted_ ABSL_GUARDED_BY(mutex_);
  std::optional<BuiltWeights> built_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const MergedWeights>> discarded_
      ABSL_GUARDED_BY(mutex_);
  bool ticks_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MERGE_BUILDER_H_
