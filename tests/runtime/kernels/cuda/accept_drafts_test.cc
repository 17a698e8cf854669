// Drafts on the device: results end where SampleOutput ends them.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/runtime/kernels/cuda/sampling_cases.h"

namespace descant::kernels::cuda_emulated {
namespace {

// A step of sequences with drafts and scored prompts, and what SampleOutput
// makes of it.
class Step {
 public:
  Step(uint64_t seed, int32_t sequences) : random_(seed) {
    params_.resize(sequences);
    histories_.resize(sequences);
    for (int32_t i = 0; i < sequences; ++i) AddSequence(i);
  }

  void RunOnCpu() {
    LayOutStepOutput(batch_, kVocab, &output_);
    SamplerScratch scratch(kVocab);
    last_tokens_.assign(batch_.sequences.size(), -7);
    for (int32_t s = 0; s < static_cast<int32_t>(params_.size()); ++s) {
      const BatchSequence& sequence = batch_.sequences[s];
      bool more = true;
      for (int32_t i = sequence.output_begin; more && i < sequence.output_end;
           ++i) {
        more = SampleOutput(batch_, s, i, batch_.tokens[batch_.output_rows[i]],
                            logits_[i], &scratch, &output_);
      }
      // As in CpuRunner::Launch.
      const StepOutput::PerSequence& results = output_.sequences[s];
      if (results.begin >= results.end || results.numeric_fault) continue;
      last_tokens_[sequence.state_slot] =
          output_.sampled[results.end - 1].token;
    }
  }

  void ExpectSameOnDevice() {
    const auto count = static_cast<int32_t>(batch_.sequences.size());
    Launch launch(kVocab);
    GuardedArray<CudaSequenceOutputs> sequences(count);
    for (int32_t s = 0; s < count; ++s) {
      const BatchSequence& from = batch_.sequences[s];
      sequences[s] = {from.output_begin, from.output_end, from.prompt_outputs,
                      from.row_end, from.state_slot};
      for (int32_t i = from.output_begin; i < from.output_end; ++i) {
        launch.Add(CaseOf(from, i));
      }
    }
    const std::vector<Outcome> outcomes = launch.Run();
    GuardedArray<CudaSampled> results(outcomes.size());
    for (size_t i = 0; i < outcomes.size(); ++i) {
      const SampleResult& from = outcomes[i].result;
      results[i] = {from.token, from.logprob, from.numeric_fault ? 1 : 0};
    }
    GuardedArray<int32_t> tokens(batch_.tokens);
    GuardedArray<int32_t> last_tokens(std::vector<int32_t>(count, -7));
    GuardedArray<CudaAccepted> accepted(count);
    ASSERT_TRUE(AcceptDrafts({.sequences = sequences.data(),
                              .count = count,
                              .results = results.data(),
                              .tokens = tokens.data(),
                              .last_tokens = last_tokens.data(),
                              .accepted = accepted.data()})
                    .ok());
    for (int32_t s = 0; s < count; ++s) {
      const StepOutput::PerSequence& expected = output_.sequences[s];
      EXPECT_EQ(accepted[s].output_end, expected.end) << s;
      EXPECT_EQ(accepted[s].numeric_fault != 0, expected.numeric_fault) << s;
      EXPECT_EQ(last_tokens[s], last_tokens_[s]) << s;
      for (int32_t i = expected.begin; i < expected.end; ++i) {
        EXPECT_EQ(results[i].token, output_.sampled[i].token) << s;
        EXPECT_NEAR(results[i].logprob, output_.sampled[i].logprob, 1e-6) << s;
      }
    }
  }

  // Of the CPU's results.
  int32_t CountCutShort() const {
    int32_t count = 0;
    for (size_t s = 0; s < params_.size(); ++s) {
      count += output_.sequences[s].end < batch_.sequences[s].output_end;
    }
    return count;
  }

 private:
  static constexpr int32_t kVocab = 9;

  void AddSequence(int32_t index) {
    SamplingParams& params = params_[index];
    params.temperature = Between(random_, 0, 1) == 0 ? 0 : 0.7f;
    params.seed = random_();
    params.top_logprobs = Between(random_, -1, 3);
    params.prompt_logprobs = Between(random_, 0, 3);
    if (Between(random_, 0, 1) == 0) params.repetition_penalty = 1.2f;
    if (Between(random_, 0, 2) == 0) params.presence_penalty = 0.3f;
    params.min_tokens = Between(random_, 0, 6);
    BatchSequence sequence;
    sequence.sampling = &params;
    sequence.choice = Between(random_, 0, 2);
    sequence.state_slot = static_cast<int32_t>(params_.size()) - 1 - index;
    sequence.generated = Between(random_, 0, 4);
    sequence.banned = &kEnds;
    sequence.prompt_length = Between(random_, 6, 12);
    const bool scores = Between(random_, 0, 3) == 0;
    const bool samples = Between(random_, 0, 7) != 0;
    const int32_t drafts = samples ? Between(random_, 0, 4) : 0;
    const int32_t rows = scores ? Between(random_, 2, 5) : 1;
    const int32_t begin = sequence.prompt_length - (scores ? rows : 1) +
                          (scores ? 0 : sequence.generated);
    std::vector<int32_t>& history = histories_[index];
    for (int32_t i = 0; i < 32; ++i) history.push_back(Token());
    sequence.history = history.data();
    sequence.row_begin = batch_.rows();
    sequence.output_begin = batch_.outputs();
    for (int32_t i = 0; i < rows + drafts; ++i) {
      const bool is_output = i + 1 < rows ? scores : samples;
      batch_.tokens.push_back(i < rows ? history[begin + i] : Token());
      batch_.positions.push_back(begin + i);
      if (!is_output) continue;
      batch_.output_rows.push_back(batch_.rows() - 1);
      AddLogits();
    }
    sequence.row_end = batch_.rows();
    sequence.output_end = batch_.outputs();
    if (!samples && scores) {
      // The last row's output would be the next chunk's: drop the row.
      batch_.tokens.pop_back();
      batch_.positions.pop_back();
      --sequence.row_end;
    }
    sequence.prompt_outputs = scores ? rows - 1 : 0;
    sequence.output = OutputKind::kTokens;
    batch_.sequences.push_back(sequence);
  }

  int32_t Token() {
    return Between(random_, 0, 1) == 0 ? 3 : Between(random_, 0, kVocab - 1);
  }

  // Often token 3; now and then at fault.
  void AddLogits() {
    std::vector<float> logits(kVocab);
    for (float& logit : logits) logit = Uniform(random_, -1, 1);
    logits[3] += Uniform(random_, 0, 4);
    if (Between(random_, 0, 11) == 0) logits[Token()] = std::nanf("");
    logits_.push_back(logits);
  }

  // As SampleOutput makes its input.
  Case CaseOf(const BatchSequence& from, int32_t index) const {
    const int32_t row = batch_.output_rows[index];
    const int32_t position = batch_.positions[row];
    const int32_t first = from.output_begin + from.prompt_outputs;
    Case of;
    of.logits = logits_[index];
    of.params = *from.sampling;
    of.position = position;
    if (index < first) {
      of.scored = from.history[position + 1];
      of.params.top_logprobs = of.params.prompt_logprobs;
      return of;
    }
    const int32_t before = index - first;
    of.history.assign(from.history, from.history + position - before);
    of.drafts.assign(&batch_.tokens[row] - before, &batch_.tokens[row]);
    of.last_token = batch_.tokens[row];
    of.prompt_length = from.prompt_length;
    if (from.generated + before < of.params.min_tokens) of.banned = kEnds;
    of.choice = from.choice;
    return of;
  }

  static inline const std::vector<int32_t> kEnds = {0, 7};

  std::mt19937_64 random_;
  std::vector<SamplingParams> params_;
  std::vector<std::vector<int32_t>> histories_;
  std::vector<std::vector<float>> logits_;  // of outputs
  Batch batch_;
  StepOutput output_;
  std::vector<int32_t> last_tokens_;
};

TEST(AcceptDraftsTest, EndsWhereTheCpuEnds) {
  for (uint64_t seed = 1; seed < 4; ++seed) {
    cuda_emulation::SetSeed(seed);
    Step step(seed, 60);
    step.RunOnCpu();
    EXPECT_GT(step.CountCutShort(), 10);
    step.ExpectSameOnDevice();
  }
}

// Whatever a prompt's score says; and no row behind the last one is read: the
// array ends where a page begins that can't be touched.
TEST(AcceptDraftsTest, APromptsScoreEndsNothing) {
  const GuardedArray<int32_t> tokens(std::vector<int32_t>{1, 2, 3, 4});
  const GuardedArray<CudaSampled> results(
      std::vector<CudaSampled>{{9, 0, 0}, {9, 0, 0}, {4, 0, 0}, {8, 0, 0}});
  const GuardedArray<CudaSequenceOutputs> sequences(
      std::vector<CudaSequenceOutputs>{{.output_begin = 0,
                                        .output_end = 4,
                                        .prompt_outputs = 2,
                                        .row_end = 4,
                                        .state_slot = 0}});
  GuardedArray<int32_t> last_tokens(1);
  GuardedArray<CudaAccepted> accepted(1);
  ASSERT_TRUE(AcceptDrafts({.sequences = sequences.data(),
                            .count = 1,
                            .results = results.data(),
                            .tokens = tokens.data(),
                            .last_tokens = last_tokens.data(),
                            .accepted = accepted.data()})
                  .ok());
  EXPECT_EQ(accepted[0].output_end, 4);
  EXPECT_EQ(last_tokens[0], 8);
}

TEST(AcceptDraftsTest, NothingToDo) { EXPECT_TRUE(AcceptDrafts({}).ok()); }

}  // namespace
}  // namespace descant::kernels::cuda_emulated
