#include "tests/runtime/model/batch_driver.h"

#include <algorithm>
#include <numeric>

#include "absl/status/status.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

int32_t BlocksFor(size_t tokens) {
  return static_cast<int32_t>((tokens + kBlockSize - 1) / kBlockSize);
}

// What a sequence has been through.
struct Progress {
  std::vector<int32_t> tokens;  // prompt and what was fed after it
  int32_t computed = 0;
};

class Driver {
 public:
  Driver(Runner* runner, const std::vector<DrivenSequence>& sequences,
         const DriverOptions& options)
      : runner_(runner),
        sequences_(sequences),
        options_(options),
        progress_(sequences.size()),
        results_(sequences.size()),
        order_(sequences.size()) {
    for (size_t i = 0; i < sequences.size(); ++i) {
      progress_[i].tokens = sequences[i].prompt;
    }
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
      return sequences[a].slot < sequences[b].slot;
    });
  }

  absl::StatusOr<std::vector<DrivenResult>> Run() {
    for (int32_t step = 1; Fill(); ++step) {
      if (options_.before_launch) options_.before_launch(&batch_);
      DESCANT_RETURN_IF_ERROR(runner_->Launch(batch_));
      DESCANT_ASSIGN_OR_RETURN(const StepOutput* output, runner_->Collect());
      if (options_.after_collect) options_.after_collect();
      Take(*output);
      if (options_.preempt_every == 0 || step % options_.preempt_every != 0) {
        continue;
      }
      for (Progress& progress : progress_) progress.computed = 0;
    }
    return results_;
  }

 private:
  bool Done(int32_t i) const {
    return static_cast<int32_t>(results_[i].tokens.size()) >=
           sequences_[i].sampling.max_tokens;
  }

  // False when every sequence is done.
  bool Fill() {
    batch_.step++;
    batch_.tokens.clear();
    batch_.positions.clear();
    batch_.sequences.clear();
    batch_.block_tables.clear();
    batch_.output_rows.clear();
    batch_.segments.clear();
    batch_.output_segments.clear();
    for (const int32_t i : order_) {
      if (!Done(i)) AddSequence(i);
    }
    return !batch_.empty();
  }

  void AddSequence(int32_t i) {
    const Progress& progress = progress_[i];
    const int32_t length = static_cast<int32_t>(progress.tokens.size());
    BatchSequence sequence;
    sequence.id = 1000 + i;
    sequence.state_slot = i;
    sequence.slot = sequences_[i].slot;
    sequence.row_begin = batch_.rows();
    sequence.computed_length = progress.computed;
    const int32_t rows = std::min(options_.chunk, length - progress.computed);
    AddRows(i, rows);
    sequence.row_end = batch_.rows();
    sequence.block_begin = static_cast<int32_t>(batch_.block_tables.size());
    AddBlocks(i, BlocksFor(progress.computed + rows));
    sequence.block_count =
        static_cast<int32_t>(batch_.block_tables.size()) - sequence.block_begin;
    sequence.output_begin = batch_.outputs();
    if (progress.computed + rows == length) {
      sequence.output = OutputKind::kTokens;
      batch_.output_rows.push_back(sequence.row_end - 1);
    }
    sequence.output_end = batch_.outputs();
    sequence.generated = static_cast<int32_t>(results_[i].tokens.size());
    sequence.sampling = &sequences_[i].sampling;
    batch_.sequences.push_back(sequence);
    AddSegments(sequence);
  }

  void AddRows(int32_t i, int32_t rows) {
    const Progress& progress = progress_[i];
    for (int32_t row = 0; row < rows; ++row) {
      const int32_t position = progress.computed + row;
      const bool generated =
          position >= static_cast<int32_t>(sequences_[i].prompt.size());
      batch_.tokens.push_back(options_.token_from_last_step && generated
                                  ? kTokenFromLastStep
                                  : progress.tokens[position]);
      batch_.positions.push_back(position);
    }
  }

  void AddBlocks(int32_t i, int32_t count) {
    const int32_t stride = static_cast<int32_t>(sequences_.size());
    for (int32_t block = 0; block < count; ++block) {
      const int32_t id = runner_->num_blocks() - 1 - (block * stride + i);
      DESCANT_CHECK(id >= 0);
      batch_.block_tables.push_back(id);
    }
  }

  void AddSegments(const BatchSequence& sequence) {
    if (sequence.slot == kNoSlot) return;
    const auto add = [&](std::vector<Segment>* segments, int32_t begin,
                         int32_t end) {
      if (begin == end) return;
      if (!segments->empty() && segments->back().slot == sequence.slot &&
          segments->back().row_end == begin) {
        segments->back().row_end = end;
      } else {
        segments->push_back({begin, end, sequence.slot, 1.0f});
      }
    };
    add(&batch_.segments, sequence.row_begin, sequence.row_end);
    add(&batch_.output_segments, sequence.output_begin, sequence.output_end);
  }

  void Take(const StepOutput& output) {
    DESCANT_CHECK(output.sequences.size() == batch_.sequences.size());
    for (size_t s = 0; s < batch_.sequences.size(); ++s) {
      const BatchSequence& sequence = batch_.sequences[s];
      const int32_t i = sequence.state_slot;
      const StepOutput::PerSequence& per = output.sequences[s];
      DESCANT_CHECK(per.id == sequence.id && per.state_slot == i);
      progress_[i].computed += sequence.row_end - sequence.row_begin;
      results_[i].numeric_fault |= per.numeric_fault;
      for (int32_t at = per.begin; at < per.end; ++at) {
        TakeToken(i, output, output.sampled[at]);
      }
    }
  }

  void TakeToken(int32_t i, const StepOutput& output,
                 const SampledToken& sampled) {
    DrivenResult& result = results_[i];
    const std::vector<int32_t>& forced = sequences_[i].forced;
    const size_t index = result.tokens.size();
    result.tokens.push_back(sampled.token);
    result.logprobs.push_back(sampled.logprob);
    result.top.emplace_back(output.top.begin() + sampled.top_begin,
                            output.top.begin() + sampled.top_end);
    progress_[i].tokens.push_back(forced.empty() ? sampled.token
                                                 : forced[index]);
  }

  Runner* const runner_;
  const std::vector<DrivenSequence>& sequences_;
  const DriverOptions options_;
  std::vector<Progress> progress_;
  std::vector<DrivenResult> results_;
  std::vector<int32_t> order_;  // by adapter slot
  Batch batch_;
};

}  // namespace

BatchLimits DriverLimits(int32_t sequences, int32_t max_length,
                         int32_t max_slots) {
  BatchLimits limits;
  limits.max_rows = sequences * max_length;
  limits.max_sequences = sequences;
  limits.max_outputs = sequences;
  limits.max_blocks_per_sequence = BlocksFor(max_length);
  limits.max_slots = max_slots;
  return limits;
}

absl::StatusOr<std::vector<DrivenResult>> Drive(
    Runner* runner, const std::vector<DrivenSequence>& sequences,
    const DriverOptions& options) {
  return Driver(runner, sequences, options).Run();
}

}  // namespace descant
