// Weights in groups: the packing, and every variant of the kernels that this
// machine runs, bit for bit against the packing's own reader and against
// expansion followed by the bf16 GEMM.
#include "runtime/kernels/groups.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

constexpr GroupFormat kFormats[] = {GroupFormat::k4, GroupFormat::k4Min,
                                    GroupFormat::k8};
// Of K: less than a group, whole groups, and everything between.
constexpr int kSizes[] = {1, 2, 17, 31, 32, 33, 64, 78, 96, 127, 576};

template <typename T>
struct Aligned {
  explicit Aligned(size_t count) : storage(count + 64 / sizeof(T)) {}
  T* data() {
    const auto at = reinterpret_cast<uintptr_t>(storage.data());
    return reinterpret_cast<T*>((at + 63) / 64 * 64);
  }
  std::vector<T> storage;
};

// A matrix [32, k] in groups, by its values.
struct Matrix {
  Matrix(GroupFormat format, int k, int rows, std::mt19937* random)
      : codes(rows * k), d(rows * Groups(k)), m(d.size()), values(32 * k) {
    std::uniform_int_distribution<int> code(
        format == GroupFormat::k8 ? -128 : 0,
        format == GroupFormat::k8 ? 127 : 15);
    std::normal_distribution<float> scale(0, 0.02f);
    for (uint8_t& byte : codes) byte = static_cast<uint8_t>(code(*random));
    for (Float16& x : d) x = ToFloat16(scale(*random));
    for (Float16& x : m) x = ToFloat16(scale(*random));
    // Subnormal, large and zero scales.
    d[0].bits = 0x0003;
    d[d.size() / 2].bits = 0x7bff;
    m[m.size() / 3].bits = 0x8000;
    for (int row = 0; row < rows; ++row) {
      for (int i = 0; i < k; ++i) {
        const int at = row * Groups(k) + i / 32;
        const float scale = ToFloat(d[at]);
        const uint8_t byte = codes[row * k + i];
        float value = 0;
        if (format == GroupFormat::k4) value = (byte - 8) * scale;
        if (format == GroupFormat::k8)
          value = static_cast<int8_t>(byte) * scale;
        if (format == GroupFormat::k4Min) {
          value = byte * scale;
          value += ToFloat(m[at]);
        }
        values[row * k + i] = value;
      }
    }
  }
  static int Groups(int k) { return (k + 31) / 32; }

  std::vector<uint8_t> codes;
  std::vector<Float16> d, m;
  std::vector<float> values;
};

// The block, 64-byte aligned, packed from `rows` rows.
Aligned<uint8_t> Pack(GroupFormat format, const Matrix& matrix, int k,
                      int rows) {
  Aligned<uint8_t> block(GroupBlockBytes(format, (k + 1) / 2) + 8192);
  const int groups = Matrix::Groups(k);
  for (int row = 0; row < rows; ++row) {
    PackGroupRow(format,
                 {matrix.codes.data() + row * k, &matrix.d[row * groups].bits,
                  &matrix.m[row * groups].bits},
                 k, row, block.data());
  }
  return block;
}

class GroupsTest : public testing::TestWithParam<CpuIsa> {
 protected:
  void SetUp() override {
    if (GetParam() > DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    const auto kernels = KernelsFor(GetParam());
    if (!kernels.ok()) GTEST_SKIP() << kernels.status();
    kernels_ = *kernels;
  }

  const CpuKernels* kernels_ = nullptr;
  std::mt19937 random_{20261124};
};

TEST(GroupPackingTest, UnpacksWhatWasPacked) {
  std::mt19937 random(7);
  for (const GroupFormat format : kFormats) {
    for (const int k : kSizes) {
      for (const int rows : {1, 31, 32}) {
        const Matrix matrix(format, k, rows, &random);
        auto block = Pack(format, matrix, k, rows);
        for (int n = 0; n < rows; ++n) {
          for (int i = 0; i < k; ++i) {
            ASSERT_EQ(matrix.values[n * k + i],
                      UnpackGroup(format, block.data(), n, i));
          }
        }
        if (rows < 32) {
          EXPECT_EQ(0.0f, UnpackGroup(format, block.data(), 31, 0));
        }
      }
    }
  }
}

TEST_P(GroupsTest, ExpandsToTheBitsOfABf16Load) {
  for (int f = 0; f < kGroupFormats; ++f) {
    for (const int k : kSizes) {
      const Matrix matrix(kFormats[f], k, 32, &random_);
      auto block = Pack(kFormats[f], matrix, k, 32);
      const int pairs = (k + 1) / 2;
      Aligned<bf16_t> out(pairs * 64);
      for (const uint8_t* next :
           {(const uint8_t*)nullptr, (const uint8_t*)block.data()}) {
        kernels_->groups->expand[f](pairs, block.data(), next, out.data());
        for (int n = 0; n < 32; ++n) {
          for (int i = 0; i < k; ++i) {
            ASSERT_EQ(ToBFloat16(matrix.values[n * k + i]).bits,
                      out.data()[i / 2 * 64 + 2 * n + i % 2])
                << "format " << f << " k " << k << " column " << n << " at "
                << i;
          }
        }
      }
    }
  }
}

TEST_P(GroupsTest, MultipliesAsExpandedWeightsDo) {
  const GroupKernels& groups = *kernels_->groups;
  std::normal_distribution<float> normal;
  for (int f = 0; f < kGroupFormats; ++f) {
    for (const int k : kSizes) {
      const int pairs = (k + 1) / 2;
      const int lda = 2 * pairs + 6;
      const Matrix matrix(kFormats[f], k, 32, &random_);
      auto block = Pack(kFormats[f], matrix, k, 32);
      Aligned<bf16_t> expanded(pairs * 64);
      groups.expand[f](pairs, block.data(), nullptr, expanded.data());
      for (int m = 1; m <= groups.fused_rows; ++m) {
        std::vector<bf16_t> a(m * lda);
        for (bf16_t& x : a) x = ToBFloat16(normal(random_)).bits;
        std::vector<float> expected(m * 35), actual(m * 35);
        kernels_->gemm(m, pairs, a.data(), lda, expanded.data(), 64, nullptr,
                       expected.data(), 35, false);
        groups.gemm[f](m, pairs, a.data(), lda, block.data(), actual.data(),
                       35);
        ASSERT_EQ(0, std::memcmp(expected.data(), actual.data(),
                                 expected.size() * sizeof(float)))
            << "format " << f << " k " << k << " rows " << m;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GroupsTest,
                         testing::Values(CpuIsa::kScalar, CpuIsa::kAvx2,
                                         CpuIsa::kAvx512, CpuIsa::kAmx),
                         [](const auto& info) {
                           return std::string(CpuIsaName(info.param));
                         });

}  // namespace
}  // namespace descant::kernels
