// Emulated kernels around a layer's products: embedding, norms, pages; against
// doubles.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;

constexpr uint16_t kUntouched = 0xffff;  // what a GuardedArray begins with

template <typename Half>
class LayerTest : public testing::Test {
 protected:
  // Half a unit in the last place, of 1.
  static constexpr double kRounding =
      std::is_same_v<Half, BFloat16> ? 0x1p-8 : 0x1p-11;

  float Uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random_);
  }
  GuardedArray<Half> Halves(size_t count, float range = 1) {
    GuardedArray<Half> values(count);
    for (Half& value : values) value = FromFloat<Half>(Uniform(-range, range));
    return values;
  }
  GuardedArray<float> Floats(size_t count, float low, float high) {
    GuardedArray<float> values(count);
    for (float& value : values) value = Uniform(low, high);
    return values;
  }
  std::mt19937 random_{11};
};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(LayerTest, Halves);

// ---- embedding

TYPED_TEST(LayerTest, EmbedScalesAndAddsPositions) {
  using Half = TypeParam;
  constexpr int32_t kVocab = 5, kPositions = 9;
  const GuardedArray<int32_t> tokens(std::vector<int32_t>{4, 0, -1, -3, 2});
  const GuardedArray<int32_t> last(std::vector<int32_t>{3, 0, 1});
  const std::vector<int32_t> resolved = {4, 0, 3, 1, 2};
  const GuardedArray<int32_t> positions(std::vector<int32_t>{8, 0, 7, 3, 3});
  const int32_t rows = static_cast<int32_t>(tokens.size());
  for (const int32_t width : {8, 72, 1032}) {
    for (const bool with_positions : {false, true}) {
      const GuardedArray<Half> table = this->Halves(kVocab * width);
      const GuardedArray<Half> of_positions = this->Halves(kPositions * width);
      const int64_t stride = width + 4;
      GuardedArray<float> x((rows - 1) * stride + width);
      ASSERT_TRUE(
          Embed<Half>({.tokens = tokens.data(),
                       .positions = positions.data(),
                       .last_tokens = last.data(),
                       .rows = rows,
                       .embedding = table.data(),
                       .position_embedding =
                           with_positions ? of_positions.data() : nullptr,
                       .width = width,
                       .scale = 1.5f,
                       .x = x.data(),
                       .x_stride = stride})
              .ok());
      for (int32_t row = 0; row < rows; ++row) {
        for (int32_t i = 0; i < width; ++i) {
          float wanted = 1.5f * ToFloat(table[resolved[row] * width + i]);
          if (with_positions) {
            wanted += ToFloat(of_positions[positions[row] * width + i]);
          }
          ASSERT_EQ(x[row * stride + i], wanted) << row << ", " << i;
        }
        if (row + 1 < rows) {
          EXPECT_TRUE(std::isnan(x[row * stride + width]));
        }
      }
    }
  }
}

TEST(EmbedTest, NoRows) { EXPECT_TRUE(Embed<BFloat16>({.width = 8}).ok()); }

// ---- norm

struct NormCase {
  int32_t width;
  bool delta = false;
  bool post = false;
  bool bias = false;
  float offset = 0;  // of x: layer norm subtracts it
};

// x' and out of one row.
template <typename Half>
void ExpectNormed(const NormArgs& args, const float* x, const Half* delta,
                  const float* x_after, const Half* out, double rounding) {
  const int32_t width = args.width;
  double delta_factor = 1;
  if (args.post_weight != nullptr) {
    double sum = 0;
    for (int32_t i = 0; i < width; ++i) {
      sum += double{ToFloat(delta[i])} * ToFloat(delta[i]);
    }
    delta_factor = 1 / std::sqrt(sum / width + args.eps);
  }
  std::vector<double> wanted(x, x + width);
  for (int32_t i = 0; i < width; ++i) {
    if (args.delta != nullptr) {
      const double post = args.post_weight != nullptr ? args.post_weight[i] : 1;
      wanted[i] += ToFloat(delta[i]) * delta_factor * post;
    }
    ASSERT_NEAR(x_after[i], wanted[i], 1e-6 * (1 + std::abs(wanted[i]))) << i;
  }
  double mean = 0;
  if (args.bias != nullptr) {
    for (const double value : wanted) mean += value / width;
  }
  double variance = 0;
  for (const double value : wanted) {
    variance += (value - mean) * (value - mean) / width;
  }
  const double factor = 1 / std::sqrt(variance + args.eps);
  for (int32_t i = 0; i < width; ++i) {
    const double bias = args.bias != nullptr ? args.bias[i] : 0;
    const double normed = (wanted[i] - mean) * factor * args.weight[i] + bias;
    ASSERT_NEAR(ToFloat(out[i]), normed,
                1.01 * rounding * std::abs(normed) + 1e-5)
        << i;
  }
}

// Arrays of one case, and launches with some of its rows.
template <typename Half>
class NormOfSources : public LayerTest<Half> {
 protected:
  static constexpr int32_t kSources = 5;

  void Start(const NormCase& c) {
    stride_ = c.width + 8;
    before_ = this->Floats(Size(kSources, c), c.offset - 2, c.offset + 2);
    delta_ = this->Halves(Size(kSources, c), 3);
    post_ = this->Floats(c.width, 0.5f, 2);
    weight_ = this->Floats(c.width, -2, 2);
    bias_ = this->Floats(c.width, -1, 1);
    args_ = {.x_stride = stride_,
             .delta = c.delta ? delta_.data() : nullptr,
             .delta_stride = stride_,
             .post_weight = c.post ? post_.data() : nullptr,
             .width = c.width,
             .weight = weight_.data(),
             .bias = c.bias ? bias_.data() : nullptr,
             .eps = 1e-5f,
             .out_stride = stride_};
  }
  int64_t Size(int64_t rows, const NormCase& c) const {
    return (rows - 1) * stride_ + c.width;
  }
  GuardedArray<Half> Run(const NormCase& c, const std::vector<int32_t>& sources,
                         GuardedArray<float>* x) {
    *x = GuardedArray<float>(
        std::vector<float>(before_.data(), before_.data() + before_.size()));
    GuardedArray<Half> out(Size(static_cast<int64_t>(sources.size()), c));
    const GuardedArray<int32_t> source_rows(sources);
    NormArgs args = args_;
    args.x = x->data();
    args.source_rows = source_rows.data();
    args.rows = static_cast<int32_t>(sources.size());
    args.out = out.data();
    const absl::Status status = Norm<Half>(args);
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  int64_t stride_ = 0;
  GuardedArray<float> before_, post_, weight_, bias_;
  GuardedArray<Half> delta_;
  NormArgs args_;
};
TYPED_TEST_SUITE(NormOfSources, Halves);

TYPED_TEST(NormOfSources, AgreesAndStandsAlone) {
  using Half = TypeParam;
  // -1 pads; rows of x that nobody names stay as they are.
  const std::vector<int32_t> sources = {3, 0, -1, 4};
  uint64_t seed = 1;
  for (const NormCase& c : std::vector<NormCase>{
           {.width = 8},
           {.width = 8, .delta = true, .post = true, .bias = true},
           {.width = 72, .delta = true},
           {.width = 256, .bias = true, .offset = 30},
           {.width = 576, .delta = true, .post = true},
           {.width = 576, .delta = true, .bias = true, .offset = -20},
           {.width = 4096, .delta = true},
           {.width = 4104, .delta = true, .post = true, .bias = true},
           {.width = 8200, .delta = true, .post = true}}) {
    SCOPED_TRACE(c.width);
    cuda_emulation::SetSeed(seed++);
    this->Start(c);
    GuardedArray<float> x, x_alone;
    const GuardedArray<Half> out = this->Run(c, sources, &x);
    for (size_t row = 0; row < sources.size(); ++row) {
      SCOPED_TRACE(row);
      const Half* const of_row = out.data() + row * this->stride_;
      if (row + 1 < sources.size()) {
        EXPECT_EQ(of_row[c.width].bits, kUntouched);
      }
      const GuardedArray<Half> alone = this->Run(c, {sources[row]}, &x_alone);
      for (int32_t i = 0; i < c.width; ++i) {
        ASSERT_EQ(alone[i].bits, of_row[i].bits) << i;
        if (sources[row] < 0) ASSERT_EQ(of_row[i].bits, 0);
      }
      if (sources[row] < 0) continue;
      const int64_t at = sources[row] * this->stride_;
      ExpectNormed<Half>(this->args_, this->before_.data() + at,
                         this->delta_.data() + at, x.data() + at, of_row,
                         this->kRounding);
    }
    for (int64_t at = this->stride_; at < 3 * this->stride_; ++at) {
      ASSERT_EQ(x[at], this->before_[at]) << at;
    }
  }
}

TYPED_TEST(LayerTest, NormOfAllRowsInTheirOrder) {
  using Half = TypeParam;
  constexpr int32_t kRows = 3, kWidth = 264;
  GuardedArray<float> x = this->Floats(kRows * kWidth, -1, 1);
  const std::vector<float> before(x.begin(), x.end());
  const GuardedArray<float> weight = this->Floats(kWidth, -2, 2);
  GuardedArray<Half> out(kRows * kWidth);
  const NormArgs args = {.x = x.data(),
                         .x_stride = kWidth,
                         .rows = kRows,
                         .width = kWidth,
                         .weight = weight.data(),
                         .eps = 1e-6f,
                         .out = out.data(),
                         .out_stride = kWidth};
  ASSERT_TRUE(Norm<Half>(args).ok());
  for (int32_t row = 0; row < kRows; ++row) {
    ExpectNormed<Half>(args, &before[row * kWidth], nullptr,
                       x.data() + row * kWidth, out.data() + row * kWidth,
                       this->kRounding);
  }
}

TYPED_TEST(LayerTest, NormOfTheWidestRow) {
  using Half = TypeParam;
  GuardedArray<float> x = this->Floats(kMaxNormWidth, -1, 1);
  const std::vector<float> before(x.begin(), x.end());
  const GuardedArray<float> weight = this->Floats(kMaxNormWidth, -2, 2);
  GuardedArray<Half> out(kMaxNormWidth);
  const NormArgs args = {.x = x.data(),
                         .rows = 1,
                         .width = kMaxNormWidth,
                         .weight = weight.data(),
                         .eps = 1e-6f,
                         .out = out.data()};
  ASSERT_TRUE(Norm<Half>(args).ok());
  ExpectNormed<Half>(args, before.data(), nullptr, x.data(), out.data(),
                     this->kRounding);
}

TEST(NormTest, NoRows) { EXPECT_TRUE(Norm<BFloat16>({.width = 8}).ok()); }

TEST(NormTest, TooWide) {
  EXPECT_FALSE(Norm<BFloat16>({.rows = 1, .width = kMaxNormWidth + 8}).ok());
}

// ---- pages

struct PagesCase {
  int32_t kv_heads;
  int32_t head_dim;
};

GuardedArray<uint16_t> Numbers(size_t count, uint16_t from) {
  GuardedArray<uint16_t> numbers(count);
  for (uint16_t& number : numbers) number = from++;
  return numbers;
}

TEST(KvPagesTest, GathersConsecutivePositions) {
  constexpr int32_t kBlocks = 4;
  const GuardedArray<int32_t> table(std::vector<int32_t>{3, 0, 2});
  for (const PagesCase& c :
       std::vector<PagesCase>{{1, 8}, {2, 80}, {3, 128}, {5, 256}}) {
    const int64_t row_size = int64_t{c.kv_heads} * c.head_dim;
    const size_t size = kBlocks * kCudaKvBlock * row_size;
    GuardedArray<uint16_t> keys = Numbers(size, 0);
    GuardedArray<uint16_t> values = Numbers(size, 12345);
    for (const int32_t tokens : {0, 1, 32, 33, 96}) {
      GuardedArray<uint16_t> to_keys(tokens * row_size);
      GuardedArray<uint16_t> to_values(tokens * row_size);
      const absl::Status status = GatherKv({.kv = {keys.data(), values.data()},
                                            .block_table = table.data(),
                                            .tokens = tokens,
                                            .kv_heads = c.kv_heads,
                                            .head_dim = c.head_dim,
                                            .keys = to_keys.data(),
                                            .values = to_values.data()});
      ASSERT_TRUE(status.ok()) << status;
      for (int64_t at = 0; at < tokens * row_size; ++at) {
        const int64_t position = at / row_size;
        const int64_t head = at % row_size / c.head_dim;
        const int64_t from =
            ((table[position / kCudaKvBlock] * c.kv_heads + head) *
                 kCudaKvBlock +
             position % kCudaKvBlock) *
                c.head_dim +
            at % c.head_dim;
        ASSERT_EQ(to_keys[at], keys[from]) << at;
        ASSERT_EQ(to_values[at], values[from]) << at;
      }
    }
  }
}

TEST(KvPagesTest, ClearsWholeBlocks) {
  constexpr int32_t kBlocks = 5;
  const GuardedArray<int32_t> blocks(std::vector<int32_t>{4, 1});
  for (const PagesCase& c : std::vector<PagesCase>{{1, 8}, {3, 80}, {2, 256}}) {
    const int64_t block_size = int64_t{c.kv_heads} * kCudaKvBlock * c.head_dim;
    GuardedArray<uint16_t> keys = Numbers(kBlocks * block_size, 1);
    GuardedArray<uint16_t> values = Numbers(kBlocks * block_size, 777);
    std::replace(keys.begin(), keys.end(), 0, 1);
    std::replace(values.begin(), values.end(), 0, 1);
    for (const int32_t count : {0, 2}) {
      ASSERT_TRUE(ClearBlocks({.kv = {keys.data(), values.data()},
                               .blocks = blocks.data(),
                               .count = count,
                               .kv_heads = c.kv_heads,
                               .head_dim = c.head_dim})
                      .ok());
      for (int64_t at = 0; at < kBlocks * block_size; ++at) {
        const bool cleared =
            count > 0 && (at / block_size == 4 || at / block_size == 1);
        ASSERT_EQ(keys[at] == 0, cleared) << at;
        ASSERT_EQ(values[at] == 0, cleared) << at;
      }
    }
  }
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
