#include "runtime/model/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/adapter.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/validate.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/cuda/cuda_sampling.h"
#include "runtime/model/model_assembly.h"
#include "runtime/model/self_test_weights.h"

namespace descant {
namespace {

// Rows of the random embeddings and head.
constexpr int32_t kVocab = 256;
constexpr int32_t kPositions = 64;
// Likeliest tokens that a runner is asked for: what each of them can give.
constexpr int32_t kTop = kernels::kMaxSampleTop;
static_assert(kTop < kVocab);

// Of the noise's error. Measured on the models of the tests, a runner's is at
// most 1.3 times that of the noise.
constexpr double kBoundFactor = 3;
// Where the noise happens to change nothing.
constexpr double kLeastBound = 2e-3;

// What is computed of a sequence in each step: whole pages and parts of them,
// chunks beside decodes.
constexpr int32_t kSteps = 4;
struct PlannedSequence {
  int32_t slot;
  int32_t rows[kSteps];
};
constexpr PlannedSequence kPlan[] = {
    {kNoSlot, {34, 3, 1, 1}}, {kNoSlot, {0, 7, 1, 1}}, {0, {20, 16, 1, 1}},
    {0, {1, 1, 1, 1}},        {1, {9, 20, 1, 1}},      {1, {0, 0, 3, 1}},
};
constexpr int32_t kSequences = std::size(kPlan);
constexpr int32_t kBlocksPerSequence = kPositions / kBlockSize;
constexpr int32_t kMaxRows = 64;
constexpr int32_t kRanks[] = {8, 20};

// Of one row.
struct RowResult {
  SampledToken scored;
  std::vector<TokenLogprob> top;
};

// Drives a runner through the plan. Every row scores the token behind it.
class PlanRun {
 public:
  PlanRun(Runner* runner, int32_t vocab, int32_t top) : runner_(runner) {
    params_.temperature = 0;
    params_.prompt_logprobs = top;
    uint32_t state = 12345;
    for (int32_t s = 0; s < kSequences; ++s) {
      std::vector<int32_t>& tokens = tokens_[s];
      // The last row has one behind it, too.
      for (int32_t i = 0; i <= kPositions; ++i) {
        state = state * 1664525u + 1013904223u;
        tokens.push_back(static_cast<int32_t>((uint64_t{state} * vocab) >> 32));
      }
    }
    tokens_[0][1] = vocab - 1;
  }

  absl::StatusOr<std::vector<RowResult>> Run() {
    if (runner_->num_blocks() < kSequences * kBlocksPerSequence) {
      return absl::InternalError("too few KV blocks for the self-test");
    }
    for (int32_t step = 0; step < kSteps; ++step) {
      Fill(step);
      DESCANT_RETURN_IF_ERROR(runner_->Launch(batch_));
      DESCANT_ASSIGN_OR_RETURN(const StepOutput* output, runner_->Collect());
      DESCANT_RETURN_IF_ERROR(Take(*output));
    }
    return std::move(results_);
  }

 private:
  void Fill(int32_t step) {
    batch_.Clear();
    batch_.step = step + 1;
    for (int32_t s = 0; s < kSequences; ++s) {
      if (kPlan[s].rows[step] > 0) AddSequence(s, kPlan[s].rows[step]);
    }
  }

  void AddSequence(int32_t s, int32_t rows) {
    BatchSequence sequence;
    sequence.id = s + 1;
    sequence.state_slot = s;
    sequence.slot = kPlan[s].slot;
    sequence.row_begin = sequence.output_begin = batch_.rows();
    sequence.row_end = sequence.output_end = batch_.rows() + rows;
    sequence.prompt_outputs = rows;
    sequence.computed_length = computed_[s];
    sequence.output = OutputKind::kTokens;
    sequence.sampling = &params_;
    sequence.history = tokens_[s].data();
    sequence.prompt_length = static_cast<int32_t>(tokens_[s].size());
    for (int32_t row = 0; row < rows; ++row) {
      const int32_t position = computed_[s]++;
      batch_.output_rows.push_back(batch_.rows());
      batch_.tokens.push_back(tokens_[s][position]);
      batch_.positions.push_back(position);
    }
    sequence.block_begin = static_cast<int32_t>(batch_.block_tables.size());
    sequence.block_count = (computed_[s] + kBlockSize - 1) / kBlockSize;
    // Descending, and those of sequences between one another.
    for (int32_t block = 0; block < sequence.block_count; ++block) {
      batch_.block_tables.push_back(runner_->num_blocks() - 1 -
                                    (block * kSequences + s));
    }
    batch_.sequences.push_back(sequence);
    if (sequence.slot == kNoSlot) return;
    // All rows have outputs, so both have the same numbers.
    for (auto* segments : {&batch_.segments, &batch_.output_segments}) {
      if (!segments->empty() && segments->back().slot == sequence.slot) {
        segments->back().row_end = sequence.row_end;
      } else {
        segments->push_back(
            {sequence.row_begin, sequence.row_end, sequence.slot, 1.0f});
      }
    }
  }

  absl::Status Take(const StepOutput& output) {
    for (const StepOutput::PerSequence& sequence : output.sequences) {
      if (sequence.numeric_fault || sequence.failed) {
        return absl::InternalError("a value is no number");
      }
    }
    for (const SampledToken& sampled : output.sampled) {
      results_.push_back({sampled,
                          {output.top.begin() + sampled.top_begin,
                           output.top.begin() + sampled.top_end}});
    }
    return absl::OkStatus();
  }

  Runner* const runner_;
  SamplingParams params_;
  std::vector<int32_t> tokens_[kSequences];
  int32_t computed_[kSequences] = {};
  Batch batch_;
  std::vector<RowResult> results_;
};

// Root mean square over the tokens that `actual` names. A token that should be
// among the likeliest and is not is off by what it lacks at least.
double RowError(const std::vector<float>& expected, const RowResult& actual) {
  double squares = 0;
  std::vector<bool> named(expected.size());
  const auto add = [&](int32_t token, float logprob) {
    if (token < 0 || token >= static_cast<int32_t>(expected.size())) {
      squares = NAN;
      return;
    }
    squares += std::pow(double{logprob} - expected[token], 2);
    named[token] = true;
  };
  add(actual.scored.token, actual.scored.logprob);
  for (const TokenLogprob& entry : actual.top) add(entry.token, entry.logprob);
  if (actual.top.empty() || std::isnan(squares)) return NAN;
  const float last = actual.top.back().logprob;
  for (size_t token = 0; token < expected.size(); ++token) {
    if (!named[token] && expected[token] > last) {
      squares += std::pow(double{expected[token]} - last, 2);
    }
  }
  return std::sqrt(squares / static_cast<double>(actual.top.size() + 1));
}

// Of all rows the largest. `expected` has every token of the vocabulary.
absl::StatusOr<double> LargestError(const std::vector<RowResult>& expected,
                                    const std::vector<RowResult>& actual) {
  if (expected.size() != actual.size()) {
    return absl::InternalError("not a result for each row");
  }
  double largest = 0;
  std::vector<float> by_token;
  for (size_t row = 0; row < expected.size(); ++row) {
    by_token.resize(expected[row].top.size());
    for (const TokenLogprob& entry : expected[row].top) {
      by_token[entry.token] = entry.logprob;
    }
    const double error = RowError(by_token, actual[row]);
    if (std::isnan(error)) return error;
    largest = std::max(largest, error);
  }
  return largest;
}

RunnerOptions OptionsFor(const ModelConfig& config,
                         const RunnerOptions& options) {
  RunnerOptions result;
  result.threads = options.threads;
  result.weights = options.weights;
  result.limits.max_rows = result.limits.max_outputs = kMaxRows;
  result.limits.max_sequences = kSequences;
  result.limits.max_blocks_per_sequence = kBlocksPerSequence;
  result.limits.max_slots = std::size(kRanks);
  // Twice what they need in fp32, and once more for padded heads.
  result.kv_bytes = uint64_t{4} * kSequences * kBlocksPerSequence *
                    sizeof(float) * 2 * kBlockSize * config.num_kv_heads *
                    (config.head_dim + 32);
  uint64_t sizes = 0;
  for (const BaseModule& module : AdaptableModules(config)) {
    sizes += module.in + module.out + 64;
  }
  result.adapter_bytes = (uint64_t{4} << 20) + sizes * 64 * sizeof(float);
  return result;
}

// A small layer is computed sooner than ATen's threads are told of it.
RunnerOptions ReferenceOptions(const ModelConfig& config,
                               const RunnerOptions& options) {
  constexpr int64_t kFewWeights = 1 << 23;
  RunnerOptions result = options;
  if (int64_t{config.hidden_size} * config.intermediate_size < kFewWeights) {
    result.threads = 1;
  }
  return result;
}

absl::StatusOr<std::shared_ptr<const Adapter>> MakeTestAdapter(
    const BaseShape& base, int32_t slot) {
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : base.modules) {
    modules.push_back({module.path, module.in, module.out});
  }
  RandomAdapterOptions options;
  options.rank = kRanks[slot];
  options.alpha = 2 * options.rank;
  options.seed = slot + 1;
  options.std_b = 0.05;  // about a quarter of what a usual matrix gives
  const AdapterFiles files = MakeRandomAdapter(modules, options);
  return MakeAdapter("", absl::StrCat("self-test-", slot), files.config_json,
                     files.safetensors_bytes, base, AdapterLimits());
}

// Of a model with the weights of `source`; the runner is gone afterwards.
absl::StatusOr<std::vector<RowResult>> RunModel(
    const Model& model, std::shared_ptr<const WeightSource> source,
    const RunnerOptions& options, const RunnerFactory& make_runner,
    int32_t top) {
  auto under_test = std::make_shared<Model>(model);
  under_test->weights = std::move(source);
  DESCANT_ASSIGN_OR_RETURN(const auto runner, make_runner(under_test, options));
  for (int32_t slot = 0; slot < options.limits.max_slots; ++slot) {
    DESCANT_ASSIGN_OR_RETURN(const auto adapter,
                             MakeTestAdapter(model.base_shape, slot));
    DESCANT_RETURN_IF_ERROR(runner->LoadAdapter(slot, adapter));
  }
  return PlanRun(runner.get(), model.config.vocab_size, top).Run();
}

absl::Status Compare(const Model& model, const RunnerOptions& options,
                     const RunnerFactory& make_runner, SelfTestCheck* check) {
  const ModelConfig& config = model.config;
  const RunnerOptions sized = OptionsFor(config, options);
  const RunnerOptions of_reference = ReferenceOptions(config, sized);
  // bf16 has the same sizes of errors wherever it is rounded; other weights
  // are far from the file's, and the runner is to compute with what it has.
  const auto exact = options.weights == WeightType::kBf16
                         ? model.weights
                         : AsPacked(model.weights, config, options.weights);
  const int32_t vocab = config.vocab_size;
  const int32_t top = std::min(kTop, vocab);
  DESCANT_ASSIGN_OR_RETURN(
      const auto expected,
      RunModel(model, exact, of_reference, &MakeReferenceRunner, vocab));
  DESCANT_ASSIGN_OR_RETURN(
      const auto noisy,
      RunModel(model, WithRoundingNoise(exact, config, options.weights),
               of_reference, &MakeReferenceRunner, top));
  DESCANT_ASSIGN_OR_RETURN(const double noise, LargestError(expected, noisy));
  check->bound = kLeastBound + kBoundFactor * noise;
  DESCANT_ASSIGN_OR_RETURN(
      const auto actual,
      RunModel(model, model.weights, sized, make_runner, top));
  DESCANT_ASSIGN_OR_RETURN(check->error, LargestError(expected, actual));
  return absl::OkStatus();
}

// `model` with nothing but its layer `layer`.
Model OneLayerModel(const Model& model, int32_t layer) {
  Model one = model;
  one.config.num_layers = 1;
  // It keeps its window, and with it its kind of rotation.
  if (!one.config.windows.empty()) {
    one.config.windows = {WindowOf(model.config, layer)};
  }
  one.base_shape.modules = AdaptableModules(one.config);
  return one;
}

}  // namespace

void TestLayers(const std::shared_ptr<const Model>& model,
                const RunnerOptions& options, const RunnerFactory& make_runner,
                SelfTestReport report) {
  for (int32_t layer = 0; layer < model->config.num_layers; ++layer) {
    SelfTestCheck check;
    check.name = absl::StrCat("layer ", layer);
    Model one = OneLayerModel(*model, layer);
    one.name = check.name;
    one.config.vocab_size = kVocab;
    one.config.max_position = kPositions;
    one.config.tied_embeddings = false;
    one.config.embedding_scale = 1;
    one.config.final_logit_cap = 0;
    one.weights = OneLayerWeights(model->weights, one.config, layer);
    check.status = Compare(one, options, make_runner, &check);
    report(check);
  }
  SelfTestCheck check;
  check.name = "embedding and head";
  Model ends = OneLayerModel(*model, 0);
  ends.name = check.name;
  check.status = Compare(ends, options, make_runner, &check);
  report(check);
}

}  // namespace descant
