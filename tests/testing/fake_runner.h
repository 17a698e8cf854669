// A runner with a toy model that catches scheduling mistakes: every KV entry
// remembers which token of which adapter was written where, and the next token
// is a hash of all entries the block table leads to. A wrong block table, a
// missing recompute, a stale or shared block, a wrong slot: each gives other
// tokens than the same request alone.
#ifndef DESCANT_TESTS_TESTING_FAKE_RUNNER_H_
#define DESCANT_TESTS_TESTING_FAKE_RUNNER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "adapters/adapter.h"
#include "runtime/base/mutex.h"
#include "runtime/core/request.h"
#include "runtime/model/runner.h"

namespace descant {

// What a request's first answer is when nothing disturbs it; the k-th one is
// the first of the same request with sampling.choice + k.
struct ExpectedAnswer {
  std::vector<int32_t> tokens;
  FinishReason reason = FinishReason::kNone;
  std::vector<float> prompt_logprobs;  // from the second token on
};

struct FakeRunnerOptions {
  BatchLimits limits;
  int32_t num_blocks = 0;
  int32_t vocab_size = 64;
  // Of a hundred tokens, those that are what followed the last earlier
  // occurrence of the token before them, if there is one: guesses are right
  // about as often.
  int32_t repeats = 0;
  int32_t arena_adapters = 1 << 20;  // that fit in the arena
  uint64_t adapter_bytes = 1;        // of each
  bool overlaps = false;
  bool merges = false;  // hot merge: merged weights take 10 bytes each
};

// Breaches of the Batch contract are collected in violations().
class FakeRunner final : public Runner {
 public:
  explicit FakeRunner(const FakeRunnerOptions& options);

  absl::Status Launch(const Batch& batch) override;
  absl::StatusOr<const StepOutput*> Collect() override;
  absl::Status health() const override { return broken; }
  bool overlaps() const override { return options_.overlaps; }
  absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) override;
  void UnloadAdapter(int32_t slot) override;
  AdapterMemory adapter_memory() const override;
  absl::Status can_merge() const override;
  uint64_t MergedBytes(const Adapter& adapter) const override { return 10; }
  uint64_t MostMergedBytes() const override { return 10; }
  absl::StatusOr<std::shared_ptr<const MergedWeights>> MergeAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status Rehearse(const Batch& batch,
                        const MergedWeights* merged) override;
  absl::StatusOr<LogprobDifference> CompareWithRehearsal() override;
  void ClearBlocks(absl::Span<const int32_t> blocks) override;
  uint64_t AdapterBytes(const Adapter& adapter) const override {
    return options_.adapter_bytes;
  }
  int32_t num_blocks() const override { return options_.num_blocks; }
  const BatchLimits& limits() const override { return options_.limits; }
  std::string Describe() const override { return "fake"; }

  // The toy model applied to one request alone.
  ExpectedAnswer Alone(const Request& request,
                       const std::vector<int32_t>& eos_token_ids,
                       int32_t max_length) const;

  const std::vector<std::string>& violations() const { return violations_; }
  // Entries of block tables that an earlier sequence of the batch had, too.
  uint64_t shared_entries() const { return shared_entries_; }
  // Rows of drafts, and those that were wrong.
  uint64_t draft_rows() const { return draft_rows_; }
  uint64_t wrong_drafts() const { return wrong_drafts_; }

  // Merged weights that somebody holds.
  int32_t merged_alive() const { return *merged_alive_; }

  // Faults to inject; set them before the call they concern.
  std::set<std::string> broken_digests;  // LoadImage: INTERNAL
  std::set<uint64_t> failing_steps;      // Collect: INTERNAL
  std::set<RequestId> faulty_requests;   // numeric fault at their next sample
  // Every step with one of them fails: Collect is INTERNAL, or Launch throws.
  std::set<RequestId> failing_requests;
  std::set<RequestId> throwing_requests;
  absl::Status broken;  // health()
  // Called first in every Launch, PackAdapter, LoadImage.
  std::function<void(const Batch&)> on_launch;
  std::function<void(const Adapter&)> on_pack;
  std::function<void(const Adapter&)> on_load;
  // The same of MergeAdapter, which broken_digests breaks, and Rehearse.
  std::function<void(const Adapter&)> on_merge;
  std::function<void(const Batch&, const MergedWeights*)> on_rehearse;
  // What CompareWithRehearsal finds.
  LogprobDifference difference;

 private:
  struct Entry {
    int32_t token = -1;
    int32_t position = -1;
    uint64_t adapter = 0;
  };

  void Violation(const Batch& batch, const std::string& what);
  void CheckLayout(const Batch& batch);
  void CheckSegments(const Batch& batch);
  void CheckBlocks(const Batch& batch);
  void CheckMerged(const Batch& batch);
  void Compute(const Batch& batch, const BatchSequence& sequence);
  int32_t RowToken(const Batch& batch, const BatchSequence& sequence,
                   int32_t row) const;
  int32_t Choose(uint64_t hash, int32_t choice, int32_t position,
                 const std::function<int32_t(int32_t)>& token_at) const;
  void Score(const BatchSequence& sequence, int32_t position, uint64_t hash);
  void Sample(const BatchSequence& sequence, int32_t token);
  void AddTop(int32_t count);
  void Poison(const Batch& batch, const BatchSequence& sequence);
  void Tear(const Batch& batch, const BatchSequence& sequence);
  bool Fails(const Batch& batch) const;
  Entry& EntryAt(const Batch& batch, const BatchSequence& sequence,
                 int32_t position);
  uint64_t AdapterKey(int32_t slot) const;

  const FakeRunnerOptions options_;
  std::vector<Entry> cache_;            // [block][kBlockSize]
  std::vector<RequestId> poisoned_by_;  // by block; 0: clean
  std::vector<RequestId> torn_by_;      // the same, by a step that failed
  // By block: full, and a sample that was no fault has read it. A fault of
  // another row leaves it sound.
  std::vector<bool> sound_;
  std::vector<int32_t> last_token_;  // by state slot
  // Of LoadImage, which has a thread of its own.
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<const Adapter>> slots_ ABSL_GUARDED_BY(mutex_);
  std::set<int32_t> slots_in_use_ ABSL_GUARDED_BY(mutex_);  // by the step
  StepOutput output_;
  bool in_flight_ = false;
  bool fail_ = false;
  // Of the rehearsal whose Launch must come next; 0: none.
  uint64_t rehearsed_step_ = 0;
  bool comparable_ = false;  // the last step had one with merged weights
  const std::shared_ptr<std::atomic<int32_t>> merged_alive_ =
      std::make_shared<std::atomic<int32_t>>(0);
  uint64_t shared_entries_ = 0;
  uint64_t draft_rows_ = 0;
  uint64_t wrong_drafts_ = 0;
  std::vector<std::string> violations_;
};

// An adapter with a name and an identity but no tensors.
std::shared_ptr<const Adapter> MakeFakeAdapter(const std::string& name,
                                               const std::string& tenant = "");

}  // namespace descant

#endif  // DESCANT_TESTS_TESTING_FAKE_RUNNER_H_
