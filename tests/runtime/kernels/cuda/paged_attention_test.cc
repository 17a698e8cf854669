// Emulated attention over pages against doubles. All of the cache that a row
// must not see is NaN, and table entries behind a sequence's last page are far
// outside the cache.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;

constexpr int32_t kNowhere = 1 << 24;  // a block that is not mapped

// A row of the batch: the next token of a context of so many positions.
struct Row {
  int32_t sequence;
  int32_t context;
};
constexpr Row kPadding = {kCudaNoSequence, -77};

struct Shape {
  int32_t head_dim;
  int32_t kv_heads;
  int32_t group;
  int32_t window = 0;
  float cap = 0;
  float q_range = 3;
};

int32_t PagesOf(int32_t positions) {
  return (positions + kCudaKvBlock - 1) / kCudaKvBlock;
}
int32_t SplitsOf(int32_t positions) {
  return std::max((positions + kAttentionSplit - 1) / kAttentionSplit, 1);
}

// Sequences in a cache, and queries.
template <typename Half>
class Batch {
 public:
  static constexpr double kRounding =
      std::is_same_v<Half, BFloat16> ? 0x1p-8 : 0x1p-11;

  Batch(const Shape& shape, std::vector<Row> rows, uint32_t seed)
      : shape_(shape), rows_(std::move(rows)), random_(seed) {
    q_stride_ = int64_t{shape.kv_heads} * shape.group * shape.head_dim + 8;
    q_ = GuardedArray<Half>(rows_.size() * q_stride_ - 8);
    for (Half& value : q_)
      value = FromFloat<Half>(Uniform(-shape.q_range, shape.q_range));
    int32_t sequences = 0;
    for (const Row& row : rows_) {
      sequences = std::max(sequences, row.sequence + 1);
      longest_ = std::max(longest_, row.context);
    }
    AllocatePages(sequences);
    for (const Row& row : rows_) FillVisible(row);
  }

  int32_t longest() const { return longest_; }
  int32_t heads() const { return shape_.kv_heads * shape_.group; }
  int64_t row_size() const { return int64_t{heads()} * shape_.head_dim; }

  // Of some rows, [count][row_size].
  std::vector<Half> Run(const std::vector<size_t>& chosen, int32_t max_splits) {
    const int64_t out_stride = row_size() + 16;
    GuardedArray<Half> q((chosen.size() - 1) * q_stride_ + row_size());
    GuardedArray<int32_t> positions(chosen.size()), sequences(chosen.size());
    for (size_t i = 0; i < chosen.size(); ++i) {
      std::copy_n(q_.data() + chosen[i] * q_stride_, row_size(),
                  q.data() + i * q_stride_);
      positions[i] = rows_[chosen[i]].context - 1;
      sequences[i] = rows_[chosen[i]].sequence;
    }
    GuardedArray<float> partials;
    if (max_splits > 1) {
      partials = GuardedArray<float>(chosen.size() * heads() * max_splits *
                                     (shape_.head_dim + 2));
    }
    GuardedArray<Half> out((chosen.size() - 1) * out_stride + row_size());
    const absl::Status status =
        Attention<Half>({.q = q.data(),
                         .q_stride = q_stride_,
                         .rows = static_cast<int32_t>(chosen.size()),
                         .heads = heads(),
                         .kv_heads = shape_.kv_heads,
                         .head_dim = shape_.head_dim,
                         .positions = positions.data(),
                         .sequences = sequences.data(),
                         .block_tables = tables_.data(),
                         .table_stride = table_stride_,
                         .window = shape_.window,
                         .scale = Scale(),
                         .cap = shape_.cap,
                         .kv = {keys_.data(), values_.data()},
                         .max_splits = max_splits,
                         .partials = partials.data(),
                         .out = out.data(),
                         .out_stride = out_stride});
    EXPECT_TRUE(status.ok()) << status;
    if (max_splits > 1) ExpectOtherPartsUntouched(chosen, max_splits, partials);
    std::vector<Half> rows;
    for (size_t i = 0; i < chosen.size(); ++i) {
      const Half* const row = out.data() + i * out_stride;
      rows.insert(rows.end(), row, row + row_size());
      if (i + 1 == chosen.size()) break;
      for (int64_t k = row_size(); k < out_stride; ++k) {
        EXPECT_EQ(row[k].bits, 0xffff) << "between rows";
      }
    }
    return rows;
  }

  void ExpectRow(size_t row, const Half* got) const {
    if (rows_[row].sequence == kCudaNoSequence) {
      for (int64_t i = 0; i < row_size(); ++i) ASSERT_EQ(got[i].bits, 0) << i;
      return;
    }
    for (int32_t head = 0; head < heads(); ++head) {
      const std::vector<double> wanted = Reference(row, head);
      for (int32_t i = 0; i < shape_.head_dim; ++i) {
        ASSERT_NEAR(
            ToFloat(got[head * shape_.head_dim + i]), wanted[i],
            1.01 * kRounding * std::abs(wanted[i]) + 1e-5 * shape_.q_range)
            << "head " << head << ", column " << i;
      }
    }
  }

 private:
  float Uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random_);
  }
  float Scale() const {
    return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  }
  int32_t Begin(const Row& row) const {
    return shape_.window > 0 ? std::max(row.context - shape_.window, 0) : 0;
  }

  // Nobody reads parts that a row sees nothing of, nor are they written.
  void ExpectOtherPartsUntouched(const std::vector<size_t>& chosen,
                                 int32_t max_splits,
                                 const GuardedArray<float>& partials) const {
    const float* at = partials.data();
    for (const size_t row : chosen) {
      const bool is_padding = rows_[row].sequence == kCudaNoSequence;
      const int32_t end = is_padding ? 0 : rows_[row].context;
      for (int32_t i = 0; i < heads() * max_splits; ++i) {
        const int32_t split = i % max_splits;
        const bool is_seen = split * kAttentionSplit < end &&
                             (split + 1) * kAttentionSplit > Begin(rows_[row]);
        for (int32_t j = 0; j < shape_.head_dim + 2; ++j, ++at) {
          ASSERT_TRUE(is_seen || std::bit_cast<uint32_t>(*at) == 0xffffffffu)
              << "context " << rows_[row].context << ", part " << split;
        }
      }
    }
  }

  // Pages of a sequence are anywhere. The cache's last block is a full page of
  // the longest one: a read beyond a position's columns leaves the array.
  void AllocatePages(int32_t sequences) {
    table_stride_ = PagesOf(longest_) + 1;
    tables_ = GuardedArray<int32_t>(size_t(sequences) * table_stride_);
    std::fill(tables_.begin(), tables_.end(), kNowhere);
    std::vector<int32_t*> used;
    int32_t* of_longest = nullptr;
    for (int32_t sequence = 0; sequence < sequences; ++sequence) {
      int32_t pages = 0, begin = longest_;
      for (const Row& row : rows_) {
        if (row.sequence != sequence) continue;
        pages = std::max(pages, PagesOf(row.context));
        begin = std::min(begin, Begin(row));
        if (row.context != longest_ || of_longest != nullptr) continue;
        const int32_t after_begin = PagesOf(Begin(row));
        const bool is_full = (after_begin + 1) * kCudaKvBlock <= row.context;
        of_longest =
            &tables_[sequence * table_stride_ +
                     (is_full ? after_begin : Begin(row) / kCudaKvBlock)];
      }
      for (int32_t page = begin / kCudaKvBlock; page < pages; ++page) {
        used.push_back(&tables_[sequence * table_stride_ + page]);
      }
    }
    std::vector<int32_t> blocks(used.size());
    std::iota(blocks.begin(), blocks.end(), 2);
    std::shuffle(blocks.begin(), blocks.end(), random_);
    for (size_t i = 0; i < used.size(); ++i) *used[i] = blocks[i];
    const auto last =
        std::max_element(used.begin(), used.end(),
                         [](int32_t* a, int32_t* b) { return *a < *b; });
    std::swap(**last, *of_longest);
    const size_t size =
        (blocks.size() + 2) * shape_.kv_heads * kCudaKvBlock * shape_.head_dim;
    keys_ = GuardedArray<Half>(size);
    values_ = GuardedArray<Half>(size);
  }

  size_t At(int32_t sequence, int32_t position, int32_t kv_head) const {
    const size_t block =
        tables_[sequence * table_stride_ + position / kCudaKvBlock];
    return ((block * shape_.kv_heads + kv_head) * kCudaKvBlock +
            position % kCudaKvBlock) *
           shape_.head_dim;
  }

  void FillVisible(const Row& row) {
    if (row.sequence == kCudaNoSequence) return;
    for (int32_t p = Begin(row); p < row.context; ++p) {
      for (int32_t head = 0; head < shape_.kv_heads; ++head) {
        const size_t at = At(row.sequence, p, head);
        if (keys_[at].bits != 0xffff) continue;  // of another row's, too
        for (int32_t i = 0; i < shape_.head_dim; ++i) {
          keys_[at + i] = FromFloat<Half>(Uniform(-2, 2));
          values_[at + i] = FromFloat<Half>(Uniform(-2, 2));
        }
      }
    }
  }

  std::vector<double> Reference(size_t index, int32_t head) const {
    const Row& row = rows_[index];
    const Half* const q =
        q_.data() + index * q_stride_ + head * shape_.head_dim;
    std::vector<double> sum(shape_.head_dim);
    double divisor = 0;
    for (int32_t p = Begin(row); p < row.context; ++p) {
      const size_t at = At(row.sequence, p, head / shape_.group);
      double score = 0;
      for (int32_t i = 0; i < shape_.head_dim; ++i) {
        score += double{ToFloat(q[i])} * ToFloat(keys_[at + i]);
      }
      score *= Scale();
      if (shape_.cap > 0) score = shape_.cap * std::tanh(score / shape_.cap);
      const double weight = std::exp(score);
      divisor += weight;
      for (int32_t i = 0; i < shape_.head_dim; ++i) {
        sum[i] += weight * ToFloat(values_[at + i]);
      }
    }
    for (double& value : sum) value /= divisor;
    return sum;
  }

  const Shape shape_;
  const std::vector<Row> rows_;
  std::mt19937 random_;
  int32_t longest_ = 0;
  int64_t q_stride_ = 0;
  int32_t table_stride_ = 0;
  GuardedArray<Half> q_, keys_, values_;
  GuardedArray<int32_t> tables_;
};

template <typename Half>
std::vector<uint16_t> BitsOf(const std::vector<Half>& row) {
  std::vector<uint16_t> bits;
  for (const Half& value : row) bits.push_back(value.bits);
  return bits;
}

// Rows in a batch, against the reference; and each alone, with no more splits
// than it needs: the same bits.
template <typename Half>
void ExpectAttention(const Shape& shape, const std::vector<Row>& rows,
                     uint32_t seed) {
  SCOPED_TRACE(testing::Message()
               << "head_dim " << shape.head_dim << ", " << shape.kv_heads
               << " x " << shape.group << " heads, window " << shape.window
               << ", cap " << shape.cap << ", seed " << seed);
  cuda_emulation::SetSeed(seed);
  Batch<Half> batch(shape, rows, seed);
  std::vector<size_t> all(rows.size());
  std::iota(all.begin(), all.end(), 0);
  const std::vector<Half> out = batch.Run(all, SplitsOf(batch.longest()));
  for (size_t row = 0; row < rows.size(); ++row) {
    SCOPED_TRACE(testing::Message() << "context " << rows[row].context);
    const Half* const got = out.data() + row * batch.row_size();
    batch.ExpectRow(row, got);
    const int32_t splits =
        SplitsOf(rows[row].context) + (rows[row].context > 400 ? 1 : 0);
    EXPECT_EQ(BitsOf(batch.Run({row}, splits)),
              BitsOf(std::vector<Half>(got, got + batch.row_size())));
  }
}

template <typename Half>
class PagedAttentionTest : public testing::Test {};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(PagedAttentionTest, Halves);

// Around pages and parts.
const std::vector<Row>& Decode() {
  static const auto* const rows =
      new std::vector<Row>{{0, 1},   {1, 31},  {2, 32},  kPadding, {3, 33},
                           {4, 255}, {5, 256}, {6, 257}, {7, 700}};
  return *rows;
}

TYPED_TEST(PagedAttentionTest, HeadDims) {
  uint32_t seed = 1;
  for (const Shape& shape :
       std::vector<Shape>{{.head_dim = 8, .kv_heads = 2, .group = 1},
                          {.head_dim = 64, .kv_heads = 2, .group = 3},
                          {.head_dim = 80, .kv_heads = 1, .group = 1},
                          {.head_dim = 96, .kv_heads = 1, .group = 2},
                          {.head_dim = 128, .kv_heads = 1, .group = 4},
                          {.head_dim = 256, .kv_heads = 1, .group = 1}}) {
    ExpectAttention<TypeParam>(shape, Decode(), seed++);
  }
}

TYPED_TEST(PagedAttentionTest, ManyHeadsOfAGroup) {
  const std::vector<Row> rows = {{0, 300}, {1, 5}, kPadding, {2, 160}};
  uint32_t seed = 100;
  for (const Shape& shape : std::vector<Shape>{{112, 1, 5},
                                               {128, 1, 8},
                                               {64, 2, 8},
                                               {40, 1, 12},
                                               {256, 1, 12},
                                               {64, 1, 16}}) {
    ExpectAttention<TypeParam>(shape, rows, seed++);
  }
}

TYPED_TEST(PagedAttentionTest, Windows) {
  uint32_t seed = 200;
  for (const int32_t window : {1, 32, 100, 256, 300}) {
    ExpectAttention<TypeParam>(
        {.head_dim = 72, .kv_heads = 1, .group = 2, .window = window}, Decode(),
        seed++);
  }
  ExpectAttention<TypeParam>(
      {.head_dim = 24, .kv_heads = 2, .group = 4, .window = 5000}, Decode(),
      seed++);
}

TYPED_TEST(PagedAttentionTest, Caps) {
  ExpectAttention<TypeParam>(
      {.head_dim = 128, .kv_heads = 1, .group = 2, .cap = 2.5f}, Decode(), 300);
  ExpectAttention<TypeParam>(
      {.head_dim = 64, .kv_heads = 1, .group = 6, .window = 90, .cap = 30},
      Decode(), 301);
}

// Scores whose exponentials no float has, wherever the largest one is.
TYPED_TEST(PagedAttentionTest, ScoresFarApart) {
  for (uint32_t seed = 350; seed < 353; ++seed) {
    ExpectAttention<TypeParam>(
        {.head_dim = 64, .kv_heads = 1, .group = 2, .q_range = 200},
        {{0, 700}, {1, 90}}, seed);
  }
}

// Rows of one sequence are a chunk of its prefill.
TYPED_TEST(PagedAttentionTest, PrefillRows) {
  std::vector<Row> rows;
  for (int32_t context = 250; context < 262; ++context) {
    rows.push_back({0, context});
  }
  rows.push_back({1, 3});
  ExpectAttention<TypeParam>({.head_dim = 64, .kv_heads = 2, .group = 4}, rows,
                             400);
}

// Several orders of threads and blocks, and a batch of one part.
TYPED_TEST(PagedAttentionTest, Seeds) {
  const std::vector<Row> rows = {{0, 256}, kPadding, {1, 77}};
  for (uint32_t seed = 500; seed < 505; ++seed) {
    ExpectAttention<TypeParam>({.head_dim = 48, .kv_heads = 1, .group = 7},
                               rows, seed);
  }
}

TYPED_TEST(PagedAttentionTest, MoreSplitsThanAnyRowHas) {
  Batch<TypeParam> batch({.head_dim = 64, .kv_heads = 2, .group = 2},
                         {{0, 200}, {1, 256}, kPadding}, 7);
  const std::vector<uint16_t> one = BitsOf(batch.Run({0, 1, 2}, 1));
  for (const int32_t max_splits : {2, 5}) {
    EXPECT_EQ(BitsOf(batch.Run({0, 1, 2}, max_splits)), one);
  }
}

TEST(AttentionTest, AFailureOfThePartsIsReported) {
  const absl::Status status = Attention<BFloat16>({.rows = 1,
                                                   .heads = 70000,
                                                   .kv_heads = 70000,
                                                   .head_dim = 8,
                                                   .max_splits = 2});
  EXPECT_EQ(status.message(), "attention: a grid of 1 x 70000 x 2");
}

TEST(AttentionTest, NoRows) {
  EXPECT_TRUE(Attention<BFloat16>({.head_dim = 64}).ok());
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
