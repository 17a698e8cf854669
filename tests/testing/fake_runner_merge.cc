// FakeRunner: merged weights.
#include "absl/strings/str_cat.h"
#include "adapters/adapter_key.h"
#include "tests/testing/fake_runner.h"

namespace descant {
namespace {

class FakeMerged final : public MergedWeights {
 public:
  // Keeps no adapter alive.
  FakeMerged(const Adapter& adapter,
             std::shared_ptr<std::atomic<int32_t>> count)
      : key(adapter), alive_(std::move(count)) {
    ++*alive_;
  }
  ~FakeMerged() override { --*alive_; }
  uint64_t bytes() const override { return 10; }

  const AdapterKey key;

 private:
  const std::shared_ptr<std::atomic<int32_t>> alive_;
};

}  // namespace

absl::Status FakeRunner::can_merge() const {
  if (options_.merges) return absl::OkStatus();
  return absl::UnimplementedError("not a runner that merges");
}

absl::StatusOr<std::shared_ptr<const MergedWeights>> FakeRunner::MergeAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  if (on_merge) on_merge(*adapter);
  if (broken_digests.count(adapter->digest) > 0) {
    return absl::InternalError("injected");
  }
  return std::shared_ptr<const MergedWeights>(
      std::make_shared<FakeMerged>(*adapter, merged_alive_));
}

// A step that was rehearsed is the next one; merged weights are those of the
// adapter that all its rows use.
void FakeRunner::CheckMerged(const Batch& batch) {
  if (rehearsed_step_ != 0 && rehearsed_step_ != batch.step) {
    Violation(batch, "not the step that was rehearsed");
  }
  rehearsed_step_ = 0;
  if (batch.merged == nullptr) return;
  const descant::AdapterKey& merged =
      static_cast<const FakeMerged*>(batch.merged)->key;
  bool alone = batch.segments.size() == 1 &&
               batch.segments.front().row_begin == 0 &&
               batch.segments.front().row_end == batch.rows();
  if (alone) {
    MutexLock lock(&mutex_);
    const auto& adapter = slots_[batch.segments.front().slot];
    alone = adapter != nullptr && SameKey(KeyOf(*adapter), merged);
  }
  if (!alone) Violation(batch, "merged weights of another adapter");
}

absl::Status FakeRunner::Rehearse(const Batch& batch,
                                  const MergedWeights* merged) {
  if (on_rehearse) on_rehearse(batch, merged);
  if (in_flight_) Violation(batch, "rehearsed with a step in flight");
  for (const int32_t token : batch.tokens) {
    if (token == kTokenFromLastStep) Violation(batch, "rehearsed too early");
  }
  // What it writes is good for nothing.
  for (const BatchSequence& sequence : batch.sequences) Tear(batch, sequence);
  rehearsed_step_ = batch.step;
  comparable_ = merged != nullptr;
  return absl::OkStatus();
}

absl::StatusOr<LogprobDifference> FakeRunner::CompareWithRehearsal() {
  if (!comparable_) return absl::FailedPreconditionError("nothing to compare");
  comparable_ = false;
  return difference;
}

}  // namespace descant
