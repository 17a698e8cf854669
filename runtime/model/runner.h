// The seam between the engine and whatever computes a step.
#ifndef DESCANT_RUNTIME_MODEL_RUNNER_H_
#define DESCANT_RUNTIME_MODEL_RUNNER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "adapters/adapter_image.h"
#include "runtime/core/batch.h"
#include "runtime/model/merged_weights.h"

namespace descant {

struct Adapter;  // adapters/adapter.h

// Bytes of the device that adapters have, and those they may have; a runner
// that takes what it needs has no capacity.
struct AdapterMemory {
  uint64_t used = 0;
  uint64_t capacity = 0;
};

// How steps were computed, by a runner that has several ways.
struct StepKinds {
  uint64_t graph = 0;      // one graph: decodes alone
  uint64_t piecewise = 0;  // graphs, and attention between them
  uint64_t eager = 0;      // launch by launch
};

// Computes batches over one loaded base model. Used by the engine thread, but
// for PackAdapter and LoadImage. This header includes no Torch.
class Runner {
 public:
  virtual ~Runner() = default;

  // Starts the step. `batch` stays valid and unchanged until Collect. REQUIRES:
  // no step in flight; every segment's slot holds a loaded adapter.
  virtual absl::Status Launch(const Batch& batch) = 0;

  // Waits for the step in flight. The result lives until the next Launch. A
  // failed status means the whole step failed (the runner stays usable).
  virtual absl::StatusOr<const StepOutput*> Collect() = 0;

  // Not OK: the device failed for good, and no later step can be computed.
  virtual absl::Status health() const { return absl::OkStatus(); }

  // Whether a step goes on beside the thread that launched it, until Collect:
  // then the next step is worth scheduling meanwhile.
  virtual bool overlaps() const { return false; }

  // Makes `adapter`, which has its tensors, ready for the device. Thread-safe.
  // Long work in pieces, with Breathe() (runtime/base/pacing.h) between them.
  virtual absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const = 0;

  // Copies an image of this runner's into `slot`, replacing what was there. One
  // thread at a time calls it, beside the engine thread, which runs steps and
  // unloads other slots meanwhile. REQUIRES: until it returns nobody else names
  // the slot. RESOURCE_EXHAUSTED when the arena is full.
  virtual absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) = 0;
  // Frees the slot's bytes, if any. The same rule holds. After a LoadImage that
  // failed the engine calls it, so that the slot is empty.
  virtual void UnloadAdapter(int32_t slot) = 0;

  // Both, on one thread.
  absl::Status LoadAdapter(int32_t slot,
                           const std::shared_ptr<const Adapter>& adapter);

  // Of the arena. Thread-safe.
  virtual AdapterMemory adapter_memory() const = 0;

  // Numeric faults may have left non-finite values in these KV blocks: clears
  // them, before any later batch uses them. Nothing to do for a runner that
  // zero-fills a block at the first write to it. No step is in flight.
  virtual void ClearBlocks(absl::Span<const int32_t> blocks) {}

  virtual StepKinds step_kinds() const { return {}; }

  // Hot merge. Whether MergeAdapter works; where not, why.
  virtual absl::Status can_merge() const {
    return absl::UnimplementedError("this runner merges no adapters");
  }
  // Bytes that merged weights of the adapter take; at most, where its tensors
  // are not here, as it may not be on all layers.
  virtual uint64_t MergedBytes(const Adapter& adapter) const { return 0; }
  // The same of an adapter on all modules.
  virtual uint64_t MostMergedBytes() const { return 0; }
  // Base weights with `adapter`, which has its tensors, merged into them: for
  // Batch::merged and Rehearse. Thread-safe, beside steps; long work in pieces,
  // as PackAdapter's. RESOURCE_EXHAUSTED: no memory. Errors of the weights'
  // file.
  virtual absl::StatusOr<std::shared_ptr<const MergedWeights>> MergeAdapter(
      const std::shared_ptr<const Adapter>& adapter) const {
    return can_merge();
  }
  // Computes the batch to its samples, and drops those: with `merged`, or where
  // that is null with W0 and no adapter. Returns when it is done. The keys and
  // values that it writes are written again by the Launch of the same batch,
  // which must follow. REQUIRES: no step in flight; no kTokenFromLastStep.
  virtual absl::Status Rehearse(const Batch& batch,
                                const MergedWeights* merged) {
    return can_merge();
  }
  // What the step collected last gave, beside the Rehearse of its batch with
  // merged weights that came before it. FAILED_PRECONDITION: there was
  // none. REQUIRES: no Launch since.
  virtual absl::StatusOr<LogprobDifference> CompareWithRehearsal() {
    return can_merge();
  }

  // Bytes an adapter would take in the arena.
  virtual uint64_t AdapterBytes(const Adapter& adapter) const = 0;

  // KV blocks there are; block ids are [0, num_blocks).
  virtual int32_t num_blocks() const = 0;
  virtual const BatchLimits& limits() const = 0;
  // For the log and GetModel: "cpu avx512_bf16, bf16 weights, 2
  // threads".
  virtual std::string Describe() const = 0;
};

inline absl::Status Runner::LoadAdapter(
    int32_t slot, const std::shared_ptr<const Adapter>& adapter) {
  absl::StatusOr<std::shared_ptr<const AdapterImage>> image =
      PackAdapter(adapter);
  return image.ok() ? LoadImage(slot, *image) : image.status();
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_RUNNER_H_
