#include "runtime/model/cuda_step_plan.h"

#include <gtest/gtest.h>

#include <vector>

namespace descant {
namespace {

BatchLimits Limits() {
  BatchLimits limits;
  limits.max_rows = 300;
  limits.max_sequences = 8;
  limits.max_outputs = 20;
  limits.max_blocks_per_sequence = 40;
  limits.max_slots = 4;
  return limits;
}

class CudaStepPlanTest : public testing::Test {
 protected:
  CudaStepPlanTest()
      : layout_(Limits(), kGatherTokens),
        arrays_(layout_.size, std::byte{0xee}) {}

  // `rows` rows of one sequence; the last one samples.
  void Add(int32_t rows, int32_t computed) {
    BatchSequence sequence;
    sequence.state_slot = static_cast<int32_t>(batch_.sequences.size());
    sequence.row_begin = batch_.rows();
    sequence.computed_length = computed;
    sequence.block_begin = static_cast<int32_t>(batch_.block_tables.size());
    sequence.block_count = (computed + rows + kBlockSize - 1) / kBlockSize;
    for (int32_t i = 0; i < sequence.block_count; ++i) {
      batch_.block_tables.push_back(100 * (sequence.state_slot + 1) + i);
    }
    for (int32_t i = 0; i < rows; ++i) {
      batch_.tokens.push_back(7 + i);
      batch_.positions.push_back(computed + i);
    }
    sequence.row_end = batch_.rows();
    sequence.output_begin = batch_.outputs();
    batch_.output_rows.push_back(sequence.row_end - 1);
    sequence.output_end = batch_.outputs();
    sequence.output = OutputKind::kTokens;
    batch_.sequences.push_back(sequence);
  }

  bool Fill() {
    return FillStep(
        batch_, Limits(),
        [this](int32_t slot) -> const CudaAdapter& { return adapters_[slot]; },
        layout_, arrays_.data(), &shape_, &bytes_, &chunks_);
  }

  template <typename T = int32_t>
  const T* At(uint64_t offset) const {
    return reinterpret_cast<const T*>(arrays_.data() + offset);
  }

  std::vector<int32_t> Some(uint64_t offset, int32_t begin,
                            int32_t count) const {
    return {At(offset) + begin, At(offset) + begin + count};
  }

  static constexpr int32_t kGatherTokens = 200;
  const CudaStepLayout layout_;
  std::vector<std::byte> arrays_;
  std::vector<CudaAdapter> adapters_ = {{1, 8}, {5, 24}, {0, 0}, {2, 70}};
  Batch batch_;
  CudaStepShape shape_;
  uint64_t bytes_ = 0;
  CudaChunks chunks_;
};

TEST(PaddedRowsTest, FewSizesAndNeverMoreThanTheMost) {
  EXPECT_EQ(PaddedRows(0, 300), 0);
  EXPECT_EQ(PaddedRows(1, 300), 1);
  EXPECT_EQ(PaddedRows(3, 300), 4);
  EXPECT_EQ(PaddedRows(9, 300), 16);
  EXPECT_EQ(PaddedRows(64, 300), 64);
  EXPECT_EQ(PaddedRows(65, 300), 96);
  EXPECT_EQ(PaddedRows(257, 300), 300);
  EXPECT_EQ(PaddedRows(257, 3000), 384);
  for (int32_t rows = 1; rows <= 300; ++rows) {
    EXPECT_GE(PaddedRows(rows, 300), rows);
  }
}

TEST_F(CudaStepPlanTest, RowsFindTheirPagesAndPaddingHasNone) {
  Add(1, 40);
  Add(2, 31);
  batch_.tokens[0] = kTokenFromLastStep;
  batch_.sequences[0].state_slot = 1;
  ASSERT_TRUE(Fill());
  EXPECT_EQ(shape_.rows, 4);
  EXPECT_EQ(shape_.outputs, 2);
  EXPECT_TRUE(shape_.prefill);
  EXPECT_EQ(shape_.attention_parts, 1);
  const std::vector<int32_t> tokens(At(layout_.tokens), At(layout_.tokens) + 4);
  EXPECT_EQ(tokens, (std::vector<int32_t>{-2, 7, 8, 0}));
  const int32_t* places = At(layout_.places);
  EXPECT_EQ(places[0], 101 * kBlockSize + 8);
  EXPECT_EQ(places[1], 200 * kBlockSize + 31);
  EXPECT_EQ(places[2], 201 * kBlockSize + 0);
  EXPECT_EQ(places[3], kernels::kCudaNoPlace);
  EXPECT_EQ(At(layout_.sequences)[2], 1);
  EXPECT_EQ(At(layout_.sequences)[3], kernels::kCudaNoSequence);
  EXPECT_EQ(At(layout_.block_tables)[layout_.table_stride + 1], 201);
  EXPECT_EQ(bytes_, layout_.block_tables + 2u * 4 * layout_.table_stride);
}

TEST_F(CudaStepPlanTest, PaddedOutputsAreOfNoRow) {
  for (int i = 0; i < 3; ++i) Add(1, 3);
  ASSERT_TRUE(Fill());
  EXPECT_EQ(shape_.outputs, 4);
  const int32_t* rows = At(layout_.output_rows);
  EXPECT_EQ(std::vector<int32_t>(rows, rows + 4),
            (std::vector<int32_t>{0, 1, 2, -1}));
}

TEST_F(CudaStepPlanTest, DecodesAloneAreNoPrefill) {
  Add(1, 40);
  Add(1, 300);
  ASSERT_TRUE(Fill());
  EXPECT_FALSE(shape_.prefill);
  EXPECT_EQ(shape_.attention_parts, 2);
  EXPECT_EQ(shape_.lora_rounds, 0);
}

TEST_F(CudaStepPlanTest, AdjacentChunksThatFitAreAGroup) {
  Add(1, 40);
  Add(20, 0);
  Add(kMinChunkRows, 100);
  Add(30, 50);                  // fits, but not beside the two before
  Add(kMinChunkRows - 1, 0);    // few rows
  Add(25, 7);                   // not adjacent to a chunk
  Add(32, kGatherTokens - 31);  // never fits
  Add(32, kGatherTokens - 32);  // just fits
  ASSERT_TRUE(Fill());
  ASSERT_EQ(chunks_.groups.size(), 4u);
  ASSERT_EQ(chunks_.chunks.size(), 5u);
  const CudaChunkGroup& first = chunks_.groups[0];
  EXPECT_EQ(first.row_begin, 1);
  EXPECT_EQ(first.row_end, 37);
  EXPECT_EQ(first.keys, 20 + 116);
  EXPECT_EQ(first.most_rows, 20);
  EXPECT_EQ(first.most_keys, 116);
  EXPECT_EQ(first.chunk_end - first.chunk_begin, 2);
  EXPECT_EQ(Some(layout_.chunk_rows, first.begins, 3),
            (std::vector<int32_t>{0, 20, 36}));
  EXPECT_EQ(Some(layout_.chunk_keys, first.begins, 3),
            (std::vector<int32_t>{0, 20, 136}));
  const CudaChunk& second = chunks_.chunks[first.chunk_begin + 1];
  EXPECT_EQ(second.sequence, 2);
  EXPECT_EQ(second.key_begin, 20);
  EXPECT_EQ(second.keys, 116);
  const int32_t rows[] = {36, 30, 25, 32};
  const int32_t keys[] = {136, 80, 32, 200};
  const int32_t sequences[] = {1, 3, 5, 7};
  for (int i = 1; i < 4; ++i) {
    const CudaChunkGroup& group = chunks_.groups[i];
    EXPECT_EQ(group.row_begin, batch_.sequences[sequences[i]].row_begin);
    EXPECT_EQ(chunks_.chunks[group.chunk_begin].sequence, sequences[i]);
    EXPECT_EQ(chunks_.chunks[group.chunk_begin].key_begin, 0);
    EXPECT_EQ(group.chunk_end - group.chunk_begin, 1);
    EXPECT_EQ(Some(layout_.chunk_rows, group.begins, 2),
              (std::vector<int32_t>{0, rows[i]}));
    EXPECT_EQ(Some(layout_.chunk_keys, group.begins, 2),
              (std::vector<int32_t>{0, keys[i]}));
  }
}

// The most entries that there can be.
TEST_F(CudaStepPlanTest, EveryChunkAGroupOfItsOwn) {
  for (int i = 0; i < Limits().max_sequences; ++i) Add(32, kGatherTokens - 32);
  ASSERT_TRUE(Fill());
  ASSERT_EQ(chunks_.groups.size(), 8u);
  EXPECT_EQ(chunks_.groups[7].begins, 14);
  EXPECT_EQ(Some(layout_.chunk_keys, 14, 2),
            (std::vector<int32_t>{0, kGatherTokens}));
  EXPECT_GE(bytes_, layout_.chunk_keys + 4u * 16);
}

TEST_F(CudaStepPlanTest, GuessesAreNoChunkAndNothingOfTheLastStepStays) {
  Add(20, 0);
  ASSERT_TRUE(Fill());
  ASSERT_EQ(chunks_.chunks.size(), 1u);
  // All of them sample.
  batch_.output_rows.clear();
  for (int row = 0; row < 20; ++row) batch_.output_rows.push_back(row);
  batch_.sequences[0].output_end = 20;
  ASSERT_TRUE(Fill());
  EXPECT_FALSE(shape_.prefill);
  EXPECT_TRUE(chunks_.chunks.empty());
  EXPECT_TRUE(chunks_.groups.empty());
  // Log-probabilities of a prompt, and its first token.
  batch_.sequences[0].prompt_outputs = 19;
  ASSERT_TRUE(Fill());
  EXPECT_TRUE(shape_.prefill);
  EXPECT_EQ(chunks_.chunks.size(), 1u);
}

TEST_F(CudaStepPlanTest, WithoutMemoryForContextsThereAreNoChunks) {
  const CudaStepLayout layout(Limits(), 0);
  Add(40, 0);
  ASSERT_TRUE(FillStep(
      batch_, Limits(),
      [this](int32_t slot) -> const CudaAdapter& { return adapters_[slot]; },
      layout, arrays_.data(), &shape_, &bytes_, &chunks_));
  EXPECT_TRUE(shape_.prefill);
  EXPECT_TRUE(chunks_.chunks.empty());
}

TEST_F(CudaStepPlanTest, OverlappingSegmentsAreRounds) {
  for (int i = 0; i < 4; ++i) Add(1, 3);
  batch_.segments = {{0, 2, 0, 1.0f},
                     {1, 3, 1, 0.5f},
                     {1, 2, 3, 2.0f},
                     {3, 4, 2, 1.0f}};  // the last one changes nothing
  ASSERT_TRUE(Fill());
  EXPECT_EQ(shape_.lora_rounds, 3);
  EXPECT_EQ(shape_.site_mask, 7u);
  EXPECT_EQ(shape_.lora_rank, 128);
  const auto slot = [&](int round, int row) {
    return At(layout_.row_slots)[round * layout_.max_rows + row];
  };
  const std::vector<int32_t> first = {slot(0, 0), slot(0, 1), slot(0, 2),
                                      slot(0, 3)};
  EXPECT_EQ(first, (std::vector<int32_t>{0, 0, 1, kNoSlot}));
  EXPECT_EQ(slot(1, 1), 1);
  EXPECT_EQ(slot(1, 0), kNoSlot);
  EXPECT_EQ(slot(2, 1), 3);
  EXPECT_EQ(At<float>(layout_.row_weights)[layout_.max_rows + 1], 0.5f);
}

TEST_F(CudaStepPlanTest, TooManyAdaptersOnARow) {
  Add(1, 3);
  for (int i = 0; i < kMaxLoraRounds; ++i) batch_.segments.push_back({0, 1, 0});
  EXPECT_TRUE(Fill());
  batch_.segments.push_back({0, 1, 0});
  EXPECT_FALSE(Fill());
}

}  // namespace
}  // namespace descant
