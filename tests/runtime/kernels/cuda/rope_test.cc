// Emulated rotary positions, head norms and writes of the cache, against
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
constexpr int32_t kBlocks = 3;
constexpr int32_t kPositions = 50;

struct Shape {
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t rotary_half;
  bool q_norm = false;
  bool k_norm = false;
};

// A launch's arrays, after it.
template <typename Half>
struct Result {
  GuardedArray<Half> qkv, keys, values;
};

template <typename Half>
class RopeTest : public testing::Test {
 protected:
  static constexpr double kRounding =
      std::is_same_v<Half, BFloat16> ? 0x1p-8 : 0x1p-11;

  GuardedArray<float> Floats(size_t count, float range) {
    std::uniform_real_distribution<float> uniform(-range, range);
    GuardedArray<float> values(count);
    for (float& value : values) value = uniform(random_);
    return values;
  }

  void Start(const Shape& shape) {
    shape_ = shape;
    width_ = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    stride_ = width_ + 8;
    const GuardedArray<float> values =
        Floats((positions_.size() - 1) * stride_ + width_, 2);
    before_ = GuardedArray<Half>(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      before_[i] = FromFloat<Half>(values[i]);
    }
    cos_ = Floats(size_t{kPositions} * shape.rotary_half, 1);
    sin_ = Floats(size_t{kPositions} * shape.rotary_half, 1);
    q_norm_ = Floats(shape.head_dim, 2);
    k_norm_ = Floats(shape.head_dim, 2);
  }

  // Of rows [row, row + count).
  Result<Half> Run(size_t row, size_t count) {
    const size_t cache =
        size_t{kBlocks} * shape_.kv_heads * kCudaKvBlock * shape_.head_dim;
    Result<Half> result = {GuardedArray<Half>((count - 1) * stride_ + width_),
                           GuardedArray<Half>(cache),
                           GuardedArray<Half>(cache)};
    std::copy_n(before_.data() + row * stride_, result.qkv.size(),
                result.qkv.data());
    const auto some = [&](const std::vector<int32_t>& all) {
      return GuardedArray<int32_t>(
          std::vector<int32_t>(all.begin() + row, all.begin() + row + count));
    };
    const GuardedArray<int32_t> positions = some(positions_);
    const GuardedArray<int32_t> places = some(places_);
    const absl::Status status =
        Rope<Half>({.qkv = result.qkv.data(),
                    .qkv_stride = stride_,
                    .rows = static_cast<int32_t>(count),
                    .heads = shape_.heads,
                    .kv_heads = shape_.kv_heads,
                    .head_dim = shape_.head_dim,
                    .positions = positions.data(),
                    .places = places.data(),
                    .cos = cos_.data(),
                    .sin = sin_.data(),
                    .rotary_half = shape_.rotary_half,
                    .q_norm = shape_.q_norm ? q_norm_.data() : nullptr,
                    .k_norm = shape_.k_norm ? k_norm_.data() : nullptr,
                    .eps = kEps,
                    .kv = {result.keys.data(), result.values.data()}});
    EXPECT_TRUE(status.ok()) << status;
    return result;
  }

  int64_t ColumnOf(int32_t head) const {
    return int64_t{head} * shape_.head_dim;
  }
  int64_t AtPlace(int32_t place, int32_t kv_head) const {
    return ((place / kCudaKvBlock * shape_.kv_heads + kv_head) * kCudaKvBlock +
            place % kCudaKvBlock) *
           int64_t{shape_.head_dim};
  }

  // A head of q or of k. Without a norm, what is not rotated keeps its bits.
  void ExpectHead(size_t row, int32_t head, const Half* got) const {
    const Half* const from = before_.data() + row * stride_ + ColumnOf(head);
    const bool is_q = head < shape_.heads;
    std::vector<double> x;
    double squares = 0;
    for (int32_t i = 0; i < shape_.head_dim; ++i) {
      x.push_back(ToFloat(from[i]));
      squares += x[i] * x[i];
    }
    if (is_q ? shape_.q_norm : shape_.k_norm) {
      const double factor = 1 / std::sqrt(squares / shape_.head_dim + kEps);
      for (int32_t i = 0; i < shape_.head_dim; ++i) {
        x[i] *= factor * (is_q ? q_norm_ : k_norm_)[i];
      }
    } else {
      for (int32_t i = 2 * shape_.rotary_half; i < shape_.head_dim; ++i) {
        ASSERT_EQ(got[i].bits, from[i].bits) << i;
      }
    }
    for (int32_t i = 0; i < shape_.rotary_half; ++i) {
      const int64_t at = int64_t{positions_[row]} * shape_.rotary_half + i;
      const double low = x[i], high = x[i + shape_.rotary_half];
      x[i] = low * cos_[at] - high * sin_[at];
      x[i + shape_.rotary_half] = high * cos_[at] + low * sin_[at];
    }
    for (int32_t i = 0; i < shape_.head_dim; ++i) {
      ASSERT_NEAR(ToFloat(got[i]), x[i],
                  1.01 * kRounding * std::abs(x[i]) + 2e-6)
          << i;
    }
  }

  void ExpectRow(size_t row, const Result<Half>& got) const {
    const Half* const qkv = got.qkv.data() + row * stride_;
    for (int32_t head = 0; head < shape_.heads; ++head) {
      ExpectHead(row, head, qkv + ColumnOf(head));
    }
    // k and v stay in their columns; what is between rows stays, too.
    const int64_t end = row + 1 < positions_.size() ? stride_ : width_;
    for (int64_t i = ColumnOf(shape_.heads); i < end; ++i) {
      ASSERT_EQ(qkv[i].bits, before_[row * stride_ + i].bits) << i;
    }
    if (places_[row] == kCudaNoPlace) return;
    for (int32_t head = 0; head < shape_.kv_heads; ++head) {
      const int64_t to = AtPlace(places_[row], head);
      ExpectHead(row, shape_.heads + head, got.keys.data() + to);
      const Half* const v =
          qkv + ColumnOf(shape_.heads + shape_.kv_heads + head);
      for (int32_t i = 0; i < shape_.head_dim; ++i) {
        ASSERT_EQ(got.values[to + i].bits, v[i].bits) << i;
      }
    }
  }

  // Alone, the row has the same bits as in the batch.
  void ExpectSame(size_t row, const Result<Half>& batch,
                  const Result<Half>& alone) const {
    for (int64_t i = 0; i < width_; ++i) {
      ASSERT_EQ(alone.qkv[i].bits, batch.qkv[row * stride_ + i].bits) << i;
    }
    for (size_t i = 0; i < alone.keys.size(); ++i) {
      if (alone.keys[i].bits == kUntouched) continue;
      ASSERT_EQ(alone.keys[i].bits, batch.keys[i].bits) << i;
    }
  }

  static constexpr float kEps = 1e-6f;
  const std::vector<int32_t> positions_ = {0, 49, 7, 31};
  const std::vector<int32_t> places_ = {kBlocks * kCudaKvBlock - 1, 33,
                                        kCudaNoPlace, 0};
  std::mt19937 random_{5};
  Shape shape_ = {};
  int64_t width_ = 0;
  int64_t stride_ = 0;
  GuardedArray<Half> before_;
  GuardedArray<float> cos_, sin_, q_norm_, k_norm_;
};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(RopeTest, Halves);

TYPED_TEST(RopeTest, RotatesAndFillsTheCache) {
  using Half = TypeParam;
  uint64_t seed = 1;
  for (const Shape& shape : std::vector<Shape>{{1, 1, 8, 4},
                                               {2, 2, 8, 3, true, false},
                                               {1, 1, 40, 4},
                                               {3, 1, 64, 32, false, true},
                                               {4, 2, 80, 16},
                                               {3, 3, 80, 40, true, true},
                                               {2, 1, 96, 12, true, true},
                                               {4, 1, 112, 56},
                                               {8, 2, 128, 64, true, true},
                                               {4, 2, 128, 0},
                                               {2, 1, 256, 0, true, true},
                                               {2, 1, 256, 128, true, true}}) {
    SCOPED_TRACE(testing::Message()
                 << shape.head_dim << ", " << shape.rotary_half);
    cuda_emulation::SetSeed(seed++);
    this->Start(shape);
    const size_t rows = this->places_.size();
    const Result<Half> batch = this->Run(0, rows);
    for (size_t row = 0; row < rows; ++row) {
      SCOPED_TRACE(row);
      this->ExpectRow(row, batch);
      this->ExpectSame(row, batch, this->Run(row, 1));
    }
    const auto written = [](const GuardedArray<Half>& cache) {
      return std::count_if(
          cache.data(), cache.data() + cache.size(),
          [](const Half& half) { return half.bits != kUntouched; });
    };
    const int64_t wanted = 3 * int64_t{shape.kv_heads} * shape.head_dim;
    EXPECT_EQ(written(batch.keys), wanted);
    EXPECT_EQ(written(batch.values), wanted);
  }
}

TEST(RopeOfNothingTest, NoRows) {
  EXPECT_TRUE(Rope<BFloat16>({.heads = 1, .kv_heads = 1, .head_dim = 8}).ok());
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
