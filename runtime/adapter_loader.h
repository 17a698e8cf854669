// Brings adapters from disk into images and images into the runner's slots, on
// a thread of its own, so that no step waits for a load.
#ifndef DESCANT_RUNTIME_ADAPTER_LOADER_H_
#define DESCANT_RUNTIME_ADAPTER_LOADER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "adapters/adapter_key.h"
#include "runtime/base/mutex.h"
#include "runtime/model/runner.h"

namespace descant {

// How a load ended.
struct LoadedAdapter {
  std::shared_ptr<const Adapter> adapter;  // as it was asked for
  absl::Status status;
  // Null where it could not be made. With `packed` it was made by this load.
  std::shared_ptr<const AdapterImage> image;
  bool packed = false;
  int32_t slot = kNoSlot;  // that it was to go to, if any
  bool no_room = false;    // the runner's memory is full
};

// One load after the other; never two of the same adapter at a time. Loads into
// slots go first, and tenants take turns. Thread-safe.
class AdapterLoader {
 public:
  // `wake` is called on the loader's thread after each load. `runner` outlives
  // this.
  AdapterLoader(Runner* runner, std::function<void()> wake);
  AdapterLoader(const AdapterLoader&) = delete;
  AdapterLoader& operator=(const AdapterLoader&) = delete;
  ~AdapterLoader() { Stop(); }

  // Makes the adapter's image: reads its tensors, where it has none, and packs
  // them. REQUIRES: neither is under way for it.
  void Fetch(std::shared_ptr<const Adapter> adapter);

  // Loads the adapter's image, or where that is null what a Fetch under way or
  // the disk gives, into `slot`, which must be left alone until TakeDone names
  // it. A Fetch under way becomes this load. REQUIRES: no Load is under way for
  // it.
  void Load(int32_t slot, std::shared_ptr<const Adapter> adapter,
            std::shared_ptr<const AdapterImage> image);

  // Takes back a Fetch that has not begun. False: there is none.
  bool Forget(AdapterKeyView key);

  // Frees the image's memory some time, unless others use it.
  void Discard(std::shared_ptr<const AdapterImage> image);

  // Replaces `done` by what has ended since the last call, in order.
  void TakeDone(std::vector<LoadedAdapter>* done);

  // While steps run, loads leave them most of the time.
  void SetStepsRun(bool run) {
    steps_run_.store(run, std::memory_order_relaxed);
  }

  // Waits for the load at hand and forgets the others. Neither Fetch nor Load
  // after it.
  void Stop();

 private:
  void Run();
  // The next job, removed from the queue.
  LoadedAdapter TakeJob() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // From disk to an image, where the job has none.
  void Pack(LoadedAdapter* job);
  void Place(LoadedAdapter* job);

  Runner* const runner_;
  const std::function<void()> wake_;
  std::atomic<bool> steps_run_{false};
  Mutex mutex_;
  CondVar changed_;
  std::vector<LoadedAdapter> queue_ ABSL_GUARDED_BY(mutex_);
  // The load at hand while its image is being made. A slot may still be added.
  LoadedAdapter* packing_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<LoadedAdapter> done_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const AdapterImage>> discarded_
      ABSL_GUARDED_BY(mutex_);
  // Tenants with jobs: when their last one was taken.
  absl::flat_hash_map<std::string, uint64_t> served_ ABSL_GUARDED_BY(mutex_);
  uint64_t tick_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ADAPTER_LOADER_H_
