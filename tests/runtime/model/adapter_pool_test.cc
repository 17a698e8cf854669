// Images: every element where the kernels look for it, whatever the dtype of
// the file; the arena's bytes exactly back.
#include "runtime/model/adapter_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "adapters/adapter.h"
#include "runtime/base/float16.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/bfloat16_convert.h"

namespace descant {
namespace {

using kernels::bf16_t;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 3;
  config.hidden_size = 45;  // odd: the last pair has one
  config.num_heads = 5;
  config.num_kv_heads = 2;
  config.head_dim = 14;
  config.intermediate_size = 67;
  return config;
}

// Owns what its modules point to.
struct TestAdapter {
  Adapter adapter;
  std::vector<std::vector<char>> buffers;

  AdapterMatrix Matrix(Dtype dtype, int32_t rows, int32_t columns,
                       std::mt19937* rng) {
    std::vector<char>& buffer = buffers.emplace_back(rows * columns * 4);
    for (int32_t i = 0; i < rows * columns; ++i) {
      const float value = (static_cast<float>((*rng)() % 20001) - 1e4f) * 1e-5f;
      if (dtype == Dtype::kF32) {
        reinterpret_cast<float*>(buffer.data())[i] = value;
      } else {
        reinterpret_cast<uint16_t*>(buffer.data())[i] =
            dtype == Dtype::kF16 ? ToFloat16(value).bits
                                 : ToBFloat16(value).bits;
      }
    }
    return {dtype, rows, columns, buffer.data()};
  }
  void Add(int32_t layer, LinearKind kind, int32_t rank, int32_t in,
           int32_t out, Dtype dtype, std::mt19937* rng) {
    AdapterModule module{layer, kind, rank, 0.5f + rank, {}, {}};
    module.a = Matrix(dtype, rank, in, rng);
    module.b = Matrix(dtype, out, rank, rng);
    adapter.modules.push_back(module);
  }
};

bf16_t ElementOf(const AdapterMatrix& matrix, int64_t row, int64_t column) {
  const int64_t at = row * matrix.columns + column;
  switch (matrix.dtype) {
    case Dtype::kF32:
      return ToBFloat16(static_cast<const float*>(matrix.data)[at]).bits;
    case Dtype::kF16:
      return ToBFloat16(ToFloat(static_cast<const Float16*>(matrix.data)[at]))
          .bits;
    default:
      return static_cast<const bf16_t*>(matrix.data)[at];
  }
}

// Of q, k, v in one site, and down in another.
TestAdapter MakeAdapter(Dtype dtype, int32_t rank, std::mt19937* rng) {
  TestAdapter made;
  const ModelConfig config = SmallConfig();
  for (const int32_t layer : {0, 2}) {
    made.Add(layer, LinearKind::kQ, rank, config.hidden_size,
             config.num_heads * config.head_dim, dtype, rng);
    made.Add(layer, LinearKind::kV, rank + 2, config.hidden_size,
             config.num_kv_heads * config.head_dim, dtype, rng);
    made.Add(layer, LinearKind::kDown, rank, config.intermediate_size,
             config.hidden_size, dtype, rng);
  }
  return made;
}

absl::StatusOr<std::unique_ptr<AdapterPool>> MakePool(
    int32_t slots, uint64_t bytes,
    AdapterWeightType type = AdapterWeightType::kBf16) {
  return AdapterPool::Create(SmallConfig(), type, slots, bytes);
}

const bf16_t* Bf16s(const std::byte* packed) {
  return reinterpret_cast<const bf16_t*>(packed);
}

void ExpectPacked(const PackedSite& site, int32_t slice,
                  const AdapterModule& module) {
  const PackedSlice& packed = site.slices[slice];
  ASSERT_EQ(packed.rank_pairs, (module.rank + 1) / 2);
  for (int32_t r = 0; r < module.rank; ++r) {
    const int32_t row = packed.h_offset + r;
    EXPECT_EQ(site.scale[row], module.scale);
    for (int32_t i = 0; i < module.a.columns; ++i) {
      const int64_t at =
          kernels::PackedIndex(row, i, module.a.columns, kernels::kRankBlock);
      ASSERT_EQ(Bf16s(site.a)[at], ElementOf(module.a, r, i))
          << row << " " << i;
    }
  }
  for (int32_t o = 0; o < module.b.rows; ++o) {
    for (int32_t r = 0; r < module.rank; ++r) {
      const int64_t at =
          kernels::PackedIndex(o, r, module.rank, kernels::kColumnBlock);
      ASSERT_EQ(Bf16s(packed.b)[at], ElementOf(module.b, o, r))
          << o << " " << r;
    }
  }
}

TEST(AdapterPoolTest, EveryElementIsWhereTheKernelsLook) {
  constexpr uint32_t kSeed = 20261126;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
    for (const int32_t rank : {1, 3, 8, 17}) {
      auto pool = MakePool(2, 1 << 20);
      ASSERT_TRUE(pool.ok());
      const TestAdapter made = MakeAdapter(dtype, rank, &rng);
      const auto image = (*pool)->Pack(made.adapter);
      ASSERT_TRUE(image.ok());
      EXPECT_EQ((*image)->bytes(), (*pool)->Bytes(made.adapter));
      // Something before it, so that offsets differ from the image's.
      ASSERT_TRUE((*pool)->Load(0, **image).ok());
      ASSERT_TRUE((*pool)->Load(1, **image).ok());
      EXPECT_EQ((*pool)->memory().used, 2 * (*image)->bytes());
      const PackedAdapter* packed = (*pool)->Find(1);
      const auto& modules = made.adapter.modules;
      for (int32_t i = 0; i < 2; ++i) {
        const PackedSite* sites = &packed->sites[2 * i * kLoraSites];
        ExpectPacked(sites[0], 0, modules[3 * i]);
        ExpectPacked(sites[0], 2, modules[3 * i + 1]);
        ExpectPacked(sites[3], 0, modules[3 * i + 2]);
        EXPECT_EQ(sites[1].a, nullptr);
      }
      EXPECT_EQ(packed->sites[kLoraSites].a, nullptr);  // layer 1
    }
  }
}

// Rows that pad A are zero, and their scales.
TEST(AdapterPoolTest, PaddingIsZero) {
  std::mt19937 rng(1);
  auto pool = MakePool(1, 1 << 20);
  ASSERT_TRUE(pool.ok());
  const TestAdapter made = MakeAdapter(Dtype::kBF16, 3, &rng);
  const auto image = (*pool)->Pack(made.adapter);
  ASSERT_TRUE(image.ok() && (*pool)->Load(0, **image).ok());
  const PackedSite& site = (*pool)->Find(0)->sites[0];
  ASSERT_EQ(site.rank, 16);
  for (int32_t row : {3, 9, 15}) {  // q has 0-2, v has 4-8
    EXPECT_EQ(site.scale[row], 0.0f);
    for (int32_t i = 0; i < 46; ++i) {
      EXPECT_EQ(
          Bf16s(site.a)[kernels::PackedIndex(row, i, 45, kernels::kRankBlock)],
          0);
    }
  }
}

// The largest of a row of A, and of a column of B, is 127 of its scale.
void ExpectQuantised(const PackedSite& site, int32_t slice,
                     const AdapterModule& module) {
  const PackedSlice& packed = site.slices[slice];
  const auto* a = reinterpret_cast<const int8_t*>(site.a);
  const auto* b = reinterpret_cast<const int8_t*>(packed.b);
  const auto value = [](const AdapterMatrix& matrix, int32_t row, int32_t i) {
    return ToFloat(BFloat16{ElementOf(matrix, row, i)});
  };
  for (int32_t r = 0; r < module.rank; ++r) {
    const int32_t row = packed.h_offset + r;
    float a_most = 0, b_most = 0;
    for (int32_t i = 0; i < module.a.columns; ++i) {
      a_most = std::max(a_most, std::abs(value(module.a, r, i)));
    }
    for (int32_t o = 0; o < module.b.rows; ++o) {
      b_most = std::max(b_most, std::abs(value(module.b, o, r)));
    }
    EXPECT_FLOAT_EQ(site.scale[row],
                    module.scale * (a_most / 127) * (b_most / 127));
    for (int32_t i = 0; i < module.a.columns; ++i) {
      const int64_t at =
          kernels::PackedIndex(row, i, module.a.columns, kernels::kRankBlock);
      ASSERT_NEAR(a[at] * (a_most / 127), value(module.a, r, i),
                  a_most / 127 * 0.5001f);
    }
    for (int32_t o = 0; o < module.b.rows; ++o) {
      const int64_t at =
          kernels::PackedIndex(o, r, module.rank, kernels::kColumnBlock);
      ASSERT_NEAR(b[at] * (b_most / 127), value(module.b, o, r),
                  b_most / 127 * 0.5001f);
    }
  }
}

TEST(AdapterPoolTest, Int8IsTheNearestMultipleOfTheScale) {
  std::mt19937 rng(4);
  for (const int32_t rank : {1, 3, 8, 17}) {
    auto pool = MakePool(1, 1 << 20, AdapterWeightType::kInt8);
    ASSERT_TRUE(pool.ok());
    const TestAdapter made = MakeAdapter(Dtype::kF32, rank, &rng);
    const auto image = (*pool)->Pack(made.adapter);
    ASSERT_TRUE(image.ok() && (*pool)->Load(0, **image).ok());
    EXPECT_EQ((*image)->bytes(), (*pool)->Bytes(made.adapter));
    const auto bf16 = (*MakePool(1, 1 << 20))->Bytes(made.adapter);
    EXPECT_LT((*image)->bytes(), bf16 * 6 / 10);
    const auto& modules = made.adapter.modules;
    for (int32_t i = 0; i < 2; ++i) {
      const PackedSite* sites = &(*pool)->Find(0)->sites[2 * i * kLoraSites];
      ExpectQuantised(sites[0], 0, modules[3 * i]);
      ExpectQuantised(sites[0], 2, modules[3 * i + 1]);
      ExpectQuantised(sites[3], 0, modules[3 * i + 2]);
    }
  }
}

// Slices of a fused module share A, and so the scales of all of B's columns.
TEST(AdapterPoolTest, Int8OfAFusedModule) {
  std::mt19937 rng(5);
  const ModelConfig config = SmallConfig();
  TestAdapter made;
  made.Add(0, LinearKind::kQkv, 5, config.hidden_size,
           (config.num_heads + 2 * config.num_kv_heads) * config.head_dim,
           Dtype::kBF16, &rng);
  auto pool = MakePool(1, 1 << 20, AdapterWeightType::kInt8);
  ASSERT_TRUE(pool.ok());
  const auto image = (*pool)->Pack(made.adapter);
  ASSERT_TRUE(image.ok() && (*pool)->Load(0, **image).ok());
  const PackedSite& site = (*pool)->Find(0)->sites[0];
  const AdapterModule& module = made.adapter.modules[0];
  const int32_t q = config.num_heads * config.head_dim;
  const int32_t kv = config.num_kv_heads * config.head_dim;
  const int32_t first[] = {0, q, q + kv};
  for (int32_t r = 0; r < 5; ++r) {
    float most = 0;
    for (int32_t o = 0; o < module.b.rows; ++o) {
      most = std::max(most,
                      std::abs(ToFloat(BFloat16{ElementOf(module.b, o, r)})));
    }
    for (int32_t slice = 0; slice < 3; ++slice) {
      const PackedSlice& packed = site.slices[slice];
      EXPECT_EQ(packed.h_offset, 0);
      for (int32_t o = 0; o < (slice == 0 ? q : kv); ++o) {
        const int64_t at = kernels::PackedIndex(o, r, 5, kernels::kColumnBlock);
        ASSERT_NEAR(
            reinterpret_cast<const int8_t*>(packed.b)[at],
            ToFloat(BFloat16{ElementOf(module.b, first[slice] + o, r)}) * 127 /
                most,
            0.5001f);
      }
    }
  }
}

// A row of zeros, or of the smallest magnitudes, is zeros without a NaN.
TEST(AdapterPoolTest, Int8OfZeros) {
  TestAdapter made;
  std::mt19937 rng(6);
  const ModelConfig config = SmallConfig();
  made.Add(0, LinearKind::kQ, 2, config.hidden_size,
           config.num_heads * config.head_dim, Dtype::kF32, &rng);
  AdapterModule& module = made.adapter.modules[0];
  auto* a = static_cast<float*>(const_cast<void*>(module.a.data));
  auto* b = static_cast<float*>(const_cast<void*>(module.b.data));
  for (int32_t i = 0; i < module.a.columns; ++i) a[i] = i % 2 == 0 ? 0 : 1e-39f;
  for (int32_t o = 0; o < module.b.rows; ++o) b[2 * o + 1] = 0;
  auto pool = MakePool(1, 1 << 20, AdapterWeightType::kInt8);
  ASSERT_TRUE(pool.ok());
  const auto image = (*pool)->Pack(made.adapter);
  ASSERT_TRUE(image.ok() && (*pool)->Load(0, **image).ok());
  const PackedSite& site = (*pool)->Find(0)->sites[0];
  EXPECT_TRUE(std::isfinite(site.scale[0]));
  EXPECT_EQ(site.scale[1], 0);
  for (int32_t i = 0; i < module.a.columns; ++i) {
    EXPECT_EQ(reinterpret_cast<const int8_t*>(
                  site.a)[kernels::PackedIndex(0, i, 45, kernels::kRankBlock)],
              0);
  }
}

TEST(AdapterPoolTest, BytesAreExactlyBackAfterManyCycles) {
  std::mt19937 rng(2);
  auto pool = MakePool(4, 400'000);
  ASSERT_TRUE(pool.ok());
  std::vector<std::shared_ptr<const PackedImage>> images;
  for (const int32_t rank : {2, 8, 16, 24}) {
    const TestAdapter made = MakeAdapter(Dtype::kF32, rank, &rng);
    images.push_back(*(*pool)->Pack(made.adapter));
  }
  EXPECT_EQ((*pool)->memory().used, 0u);
  EXPECT_GE((*pool)->memory().capacity, 400'000u);
  for (int cycle = 0; cycle < 200; ++cycle) {
    uint64_t used = 0;
    for (int32_t slot = 0; slot < 4; ++slot) {
      const auto& image = images[rng() % 4];
      if ((*pool)->Load(slot, *image).ok()) used += image->bytes();
      EXPECT_EQ((*pool)->memory().used, used);
    }
    for (int32_t slot = 0; slot < 4; ++slot) (*pool)->Unload(slot);
    EXPECT_EQ((*pool)->memory().used, 0u);
  }
}

TEST(BFloat16ConvertTest, ManyAtOnceAreAsOneByOne) {
  std::vector<uint16_t> halves(65536 + 5);
  for (size_t i = 0; i < halves.size(); ++i) {
    halves[i] = static_cast<uint16_t>(i);
  }
  std::vector<bf16_t> converted(halves.size());
  HalfToBFloat16(halves.data(), static_cast<int64_t>(halves.size()),
                 converted.data());
  for (size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(converted[i], ToBFloat16(ToFloat(Float16{halves[i]})).bits) << i;
  }
  std::mt19937 rng(3);
  std::vector<float> floats(100'003);
  for (float& value : floats) {
    const uint32_t bits = rng();
    value = std::bit_cast<float>(rng() % 8 == 0 ? bits | 0x7f800000u : bits);
  }
  converted.resize(floats.size());
  FloatToBFloat16(floats.data(), static_cast<int64_t>(floats.size()),
                  converted.data());
  for (size_t i = 0; i < floats.size(); ++i) {
    ASSERT_EQ(converted[i], ToBFloat16(floats[i]).bits) << i;
  }
}

}  // namespace
}  // namespace descant
