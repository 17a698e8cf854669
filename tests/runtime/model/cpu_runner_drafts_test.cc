// Drafts in the CPU runner: their rows leave nothing behind, whatever they
// compute. (That right ones give the same bits: engine_determinism_test.)
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/model/kv_cache.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/cpu_runner_fixture.h"

namespace descant {
namespace {

// A token whose embedding is not finite. The head is as it was.
class PoisonedWeights final : public WeightSource {
 public:
  PoisonedWeights(std::shared_ptr<const WeightSource> sound,
                  const ModelConfig& config, int32_t token)
      : sound_(std::move(sound)),
        tied_(config.tied_embeddings),
        columns_(config.hidden_size),
        token_(token) {}

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    std::vector<float> values(out.size());
    const absl::Status status =
        ReadFp32(kind, layer, row_begin, absl::MakeSpan(values));
    for (size_t i = 0; i < out.size(); ++i) out[i] = ToBFloat16(values[i]);
    return status;
  }

  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    const bool head = kind == WeightKind::kHead && tied_;
    const absl::Status status = sound_->ReadFp32(
        head ? WeightKind::kEmbedding : kind, layer, row_begin, out);
    if (kind != WeightKind::kEmbedding) return status;
    for (size_t i = 0; i < out.size(); ++i) {
      if (row_begin + static_cast<int64_t>(i) / columns_ == token_) {
        out[i] = std::numeric_limits<float>::infinity();
      }
    }
    return status;
  }

 private:
  const std::shared_ptr<const WeightSource> sound_;
  const bool tied_;
  const int64_t columns_;
  const int32_t token_;
};

class CpuRunnerDraftsTest : public CpuRunnerFixture {
 protected:
  static constexpr int32_t kPoison = 7;

  void Poison() {
    auto model = std::make_shared<Model>(*model_);
    model->weights = std::make_shared<PoisonedWeights>(model_->weights,
                                                       model_->config, kPoison);
    model->config.tied_embeddings = false;
    model_ = std::move(model);
    sampling_.temperature = 0;
    sampling_.top_logprobs = 3;
  }

  // Computes the rows of tokens_ that are not yet, and drafts behind them.
  std::vector<SampledToken> Step(Runner* runner,
                                 const std::vector<int32_t>& drafts = {}) {
    batch_ = {};
    batch_.step = ++step_;
    batch_.tokens.assign(tokens_.begin() + computed_, tokens_.end());
    const int32_t known = static_cast<int32_t>(batch_.tokens.size());
    batch_.tokens.insert(batch_.tokens.end(), drafts.begin(), drafts.end());
    BatchSequence& sequence = batch_.sequences.emplace_back();
    sequence.id = 1;
    sequence.row_end = static_cast<int32_t>(batch_.tokens.size());
    sequence.computed_length = computed_;
    for (int32_t row = 0; row < sequence.row_end; ++row) {
      batch_.positions.push_back(computed_ + row);
      if (row + 1 >= known) batch_.output_rows.push_back(row);
    }
    sequence.output = OutputKind::kTokens;
    sequence.output_end = batch_.outputs();
    sequence.block_count = batch_.positions.back() / kBlockSize + 1;
    for (int32_t i = 0; i < sequence.block_count; ++i) {
      batch_.block_tables.push_back(i);
    }
    sequence.sampling = &sampling_;
    EXPECT_TRUE(runner->Launch(batch_).ok());
    const auto output = runner->Collect();
    EXPECT_TRUE(output.ok());
    const StepOutput::PerSequence& result = (*output)->sequences[0];
    EXPECT_FALSE(result.numeric_fault);
    std::vector<SampledToken> sampled((*output)->sampled.begin() + result.begin,
                                      (*output)->sampled.begin() + result.end);
    // A prompt's own rows are there; of drafts those that gave tokens.
    computed_ += drafts.empty() ? known : static_cast<int32_t>(sampled.size());
    for (const SampledToken& token : sampled) tokens_.push_back(token.token);
    return sampled;
  }

  // A prompt that ends so many rows before a block does.
  void Start(int32_t before_end) {
    tokens_.clear();
    for (int32_t i = 0; i < 2 * kBlockSize - before_end; ++i) {
      tokens_.push_back(10 + i * 5 % 50);
    }
    computed_ = 0;
  }

  SamplingParams sampling_;
  std::vector<int32_t> tokens_;
  int32_t computed_ = 0;
  uint64_t step_ = 0;
  Batch batch_;
};

TEST_F(CpuRunnerDraftsTest, WhatADraftPoisonsIsNotSeen) {
  Load("tiny_llama");
  Poison();
  // As many outputs as sequences: room for the drafts.
  const auto runner = MakeRunner(8, 4 * kBlockSize, 2);
  ASSERT_NE(runner, nullptr);
  constexpr int32_t kTokens = 8;
  for (const int32_t before_end : {2, 4, 12}) {
    Start(before_end);
    std::vector<SampledToken> expected;
    while (expected.size() < kTokens) {
      for (const SampledToken& token : Step(runner.get())) {
        ASSERT_NE(token.token, kPoison);
        expected.push_back(token);
      }
    }
    for (int32_t wrong = 0; wrong < 3; ++wrong) {
      Start(before_end);
      std::vector<SampledToken> actual = Step(runner.get());
      bool drafts = true;
      while (actual.size() < kTokens) {
        // Some right ones, one that is poison, one that would follow it.
        std::vector<int32_t> guesses;
        for (size_t i = 0;
             i < static_cast<size_t>(wrong) && actual.size() + i < kTokens;
             ++i) {
          guesses.push_back(expected[actual.size() + i].token);
        }
        guesses.insert(guesses.end(), {kPoison, 20});
        if (!drafts) guesses.clear();
        drafts = !drafts;
        for (const SampledToken& token : Step(runner.get(), guesses)) {
          actual.push_back(token);
        }
      }
      for (int32_t i = 0; i < kTokens; ++i) {
        EXPECT_EQ(actual[i].token, expected[i].token) << i;
        EXPECT_EQ(actual[i].logprob, expected[i].logprob) << i;
      }
    }
  }
}

TEST(KvCacheTest, AClearedTokenIsAsIfItWasNeverWritten) {
  ModelConfig config;
  config.num_layers = 1;
  config.num_kv_heads = 2;
  config.num_heads = 2;
  config.head_dim = 6;
  const uint64_t bytes = 2 * KvCache::BlockBytes(config);
  auto once = KvCache::Create(config, bytes);
  auto cleared = KvCache::Create(config, bytes);
  ASSERT_TRUE(once.ok() && cleared.ok());
  const std::vector<kernels::bf16_t> k(6, 0x3f80);
  const std::vector<kernels::bf16_t> v(6, 0x4000);
  for (int32_t head = 0; head < 2; ++head) {
    for (const int32_t offset : {4, 5, 6}) {
      if (offset != 5) once->Write(0, head, 1, offset, k.data(), v.data());
      cleared->Write(0, head, 1, offset, k.data(), v.data());
    }
  }
  cleared->ClearToken(0, 1, 5);
  for (int32_t head = 0; head < 2; ++head) {
    const kernels::bf16_t* a = once->Head(0, head) + once->block_stride();
    const kernels::bf16_t* b = cleared->Head(0, head) + cleared->block_stride();
    const int64_t size = once->block_stride() / 2;
    EXPECT_TRUE(std::equal(a, a + size, b)) << head;
    EXPECT_FALSE(std::all_of(b, b + size, [](auto x) { return x == 0; }));
  }
}

}  // namespace
}  // namespace descant
