// A runner that computes with merged weights what one adapter has for itself.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_MERGING_RUNNER_H_
#define DESCANT_TESTS_RUNTIME_MODEL_MERGING_RUNNER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "runtime/base/status_macros.h"
#include "runtime/model/runner.h"

namespace descant {

// Over a runner that outlives it.
class MergingRunner final : public Runner {
 public:
  explicit MergingRunner(Runner* inner) : inner_(inner) {}

  // Merged weights of the adapter in a slot, for batches of nothing else.
  std::map<int32_t, std::shared_ptr<const MergedWeights>> by_slot;
  // Instead of being computed with them, such batches are rehearsed with them
  // and without any adapter, computed as they are, and compared.
  bool only_rehearses = false;
  LogprobDifference difference;  // of all that was compared
  int32_t merged_steps = 0;
  int32_t other_steps = 0;

  absl::Status Launch(const Batch& batch) override {
    batch_ = batch;
    const auto found = by_slot.find(OnlySlotOf(batch));
    compares_ = found != by_slot.end() && only_rehearses;
    if (compares_) {
      DESCANT_RETURN_IF_ERROR(inner_->Rehearse(batch_, found->second.get()));
      DESCANT_RETURN_IF_ERROR(inner_->Rehearse(batch_, nullptr));
    } else if (found != by_slot.end()) {
      batch_.merged = found->second.get();
    }
    ++(batch_.merged == nullptr ? other_steps : merged_steps);
    return inner_->Launch(batch_);
  }
  absl::StatusOr<const StepOutput*> Collect() override {
    DESCANT_ASSIGN_OR_RETURN(const StepOutput* output, inner_->Collect());
    if (!compares_) return output;
    DESCANT_ASSIGN_OR_RETURN(const LogprobDifference one,
                             inner_->CompareWithRehearsal());
    difference.Add(one);
    return output;
  }
  absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override {
    return inner_->PackAdapter(adapter);
  }
  absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) override {
    return inner_->LoadImage(slot, image);
  }
  void UnloadAdapter(int32_t slot) override { inner_->UnloadAdapter(slot); }
  AdapterMemory adapter_memory() const override {
    return inner_->adapter_memory();
  }
  uint64_t AdapterBytes(const Adapter& adapter) const override {
    return inner_->AdapterBytes(adapter);
  }
  int32_t num_blocks() const override { return inner_->num_blocks(); }
  const BatchLimits& limits() const override { return inner_->limits(); }
  std::string Describe() const override { return inner_->Describe(); }

 private:
  // kNoSlot: rows of the base, or of several adapters.
  static int32_t OnlySlotOf(const Batch& batch) {
    if (batch.segments.size() != 1) return kNoSlot;
    const Segment& segment = batch.segments[0];
    const bool all = segment.row_begin == 0 && segment.row_end == batch.rows();
    return all ? segment.slot : kNoSlot;
  }

  Runner* const inner_;
  Batch batch_;
  bool compares_ = false;
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_MERGING_RUNNER_H_
