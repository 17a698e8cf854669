// Brings adapters from disk to the runner, on a thread of its own, so that no
// step waits for a load.
#ifndef DESCANT_RUNTIME_ADAPTER_LOADER_H_
#define DESCANT_RUNTIME_ADAPTER_LOADER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/mutex.h"
#include "runtime/model/runner.h"

namespace descant {

// How a load ended.
struct LoadedSlot {
  int32_t slot = 0;
  absl::Status status;
  // The runner's memory is full: `adapter` has its tensors, to try again with.
  bool no_room = false;
  std::shared_ptr<const Adapter> adapter;
};

// One load after the other, in the order of Start. Thread-safe.
class AdapterLoader {
 public:
  // `wake` is called on the loader's thread after each load. `runner` outlives
  // this.
  AdapterLoader(Runner* runner, std::function<void()> wake);
  AdapterLoader(const AdapterLoader&) = delete;
  AdapterLoader& operator=(const AdapterLoader&) = delete;
  ~AdapterLoader() { Stop(); }

  // Reads the adapter's tensors, where it has none, and packs them into `slot`.
  // The slot must be left alone until TakeLoaded names it.
  void Start(int32_t slot, std::shared_ptr<const Adapter> adapter);

  // Replaces `loaded` by what has ended since the last call, in order.
  void TakeLoaded(std::vector<LoadedSlot>* loaded);

  // Waits for the load at hand and forgets the others. No Start after it.
  void Stop();

 private:
  void Run();
  LoadedSlot Load(int32_t slot, std::shared_ptr<const Adapter> adapter);

  Runner* const runner_;
  const std::function<void()> wake_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<LoadedSlot> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<LoadedSlot> loaded_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ADAPTER_LOADER_H_
