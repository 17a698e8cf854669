// Kernels that work on rows and tiles, beside the scalar ones.
#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/cpu_self_test_checks.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::CpuKernels;
using kernels::kColumnBlock;
using kernels::kScalarKernels;

constexpr int32_t kSize = 100;  // of a row; padded below
constexpr int32_t kPadded = 128;
constexpr float kEps = 1e-5f;
constexpr int32_t kRows = 5;
constexpr size_t kTile = kRows * kColumnBlock;

// Zero from kSize on.
CacheLines<float> PaddedRow(SelfTestValues* values, float range = 1) {
  CacheLines<float> row(kPadded);
  for (int32_t i = 0; i < kSize; ++i) row[i] = range * values->Next();
  return row;
}

template <kernels::NormFn CpuKernels::*kNorm>
void CheckNorm(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(11);
  const auto x = PaddedRow(&values, 3), weight = PaddedRow(&values),
             bias = PaddedRow(&values);
  CacheLines<bf16_t> wanted(kPadded), got(kPadded);
  (kScalarKernels.*kNorm)(x.data(), weight.data(), bias.data(), kSize, kPadded,
                          kEps, wanted.data());
  (kernels.*kNorm)(x.data(), weight.data(), bias.data(), kSize, kPadded, kEps,
                   got.data());
  for (int32_t i = 0; i < kPadded; ++i) {
    difference->Add(FromBf16(wanted[i]), FromBf16(got[i]));
  }
}

// By the values that the codes stand for, relative to the row's largest.
template <kernels::NormQuantiseFn kernels::Int8Kernels::*kNorm>
void CheckQuantisedNorm(const CpuKernels& kernels,
                        LargestDifference* difference) {
  SelfTestValues values(12);
  const auto x = PaddedRow(&values, 3), weight = PaddedRow(&values),
             bias = PaddedRow(&values);
  CacheLines<bf16_t> wanted(kPadded), got(kPadded);
  CacheLines<uint8_t> wanted_codes(kPadded), codes(kPadded);
  float wanted_scale = 0, scale = 0;
  (kScalarKernels.int8.*kNorm)(x.data(), weight.data(), bias.data(), kSize,
                               kPadded, kEps, wanted.data(),
                               wanted_codes.data(), &wanted_scale);
  (kernels.int8.*kNorm)(x.data(), weight.data(), bias.data(), kSize, kPadded,
                        kEps, got.data(), codes.data(), &scale);
  difference->Add(wanted_scale, scale, 100 * wanted_scale);
  for (int32_t i = 0; i < kPadded; ++i) {
    difference->Add(FromBf16(wanted[i]), FromBf16(got[i]));
    // One code is less than the bound.
    difference->Add(wanted_codes[i], codes[i], 130);
  }
}

void CheckQuantise(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(13);
  const auto x = Bf16s(kPadded, &values);
  CacheLines<uint8_t> wanted(kPadded), got(kPadded);
  float wanted_scale = 0, scale = 0;
  kScalarKernels.int8.quantise(x.data(), kPadded, wanted.data(), &wanted_scale);
  kernels.int8.quantise(x.data(), kPadded, got.data(), &scale);
  difference->Add(wanted_scale, scale);
  for (int32_t i = 0; i < kPadded; ++i) difference->Add(wanted[i], got[i]);
}

void CheckAddRmsNorm(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(14);
  const auto y = PaddedRow(&values, 3), weight = PaddedRow(&values);
  auto wanted = PaddedRow(&values);
  auto got = wanted;
  kScalarKernels.add_rms_norm(y.data(), weight.data(), kSize, kPadded, kEps,
                              wanted.data());
  kernels.add_rms_norm(y.data(), weight.data(), kSize, kPadded, kEps,
                       got.data());
  for (int32_t i = 0; i < kPadded; ++i) difference->Add(wanted[i], got[i]);
}

void CheckHeadNorm(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(15);
  const auto x = PaddedRow(&values, 3), weight = PaddedRow(&values);
  CacheLines<float> wanted(kPadded), got(kPadded);
  kScalarKernels.head_norm(x.data(), weight.data(), kSize, kEps, wanted.data());
  kernels.head_norm(x.data(), weight.data(), kSize, kEps, got.data());
  for (int32_t i = 0; i < kSize; ++i) difference->Add(wanted[i], got[i]);
}

void AddTile(CacheLines<float>* wanted, CacheLines<float>* got,
             LargestDifference* difference) {
  for (size_t i = 0; i < kTile; ++i) {
    difference->Add((*wanted)[i], (*got)[i]);
  }
}

void CheckResidualAdd(const CpuKernels& kernels,
                      LargestDifference* difference) {
  SelfTestValues values(16);
  const CacheLines<float> c(values.Floats(kTile));
  CacheLines<float> wanted(values.Floats(kTile));
  CacheLines<float> got = wanted;
  kScalarKernels.residual_add(kRows, c.data(), wanted.data(), kColumnBlock);
  kernels.residual_add(kRows, c.data(), got.data(), kColumnBlock);
  AddTile(&wanted, &got, difference);
}

void CheckBiasAdd(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(17);
  const CacheLines<float> bias(values.Floats(kColumnBlock));
  CacheLines<float> wanted(values.Floats(kTile));
  CacheLines<float> got = wanted;
  kScalarKernels.bias_add(kRows, bias.data(), wanted.data(), kColumnBlock);
  kernels.bias_add(kRows, bias.data(), got.data(), kColumnBlock);
  AddTile(&wanted, &got, difference);
}

void CheckSoftCap(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(18);
  CacheLines<float> wanted(values.Floats(kTile, 60));
  CacheLines<float> got = wanted;
  kScalarKernels.soft_cap(kRows, 30, wanted.data(), kColumnBlock);
  kernels.soft_cap(kRows, 30, got.data(), kColumnBlock);
  AddTile(&wanted, &got, difference);
}

template <kernels::ActivateMulFn CpuKernels::*kActivate>
void CheckActivateMul(const CpuKernels& kernels,
                      LargestDifference* difference) {
  SelfTestValues values(19);
  const CacheLines<float> gate(values.Floats(kTile, 5));
  const CacheLines<float> up(values.Floats(kTile));
  CacheLines<bf16_t> wanted(kTile), got(kTile);
  (kScalarKernels.*kActivate)(kRows, gate.data(), up.data(), wanted.data(),
                              kColumnBlock);
  (kernels.*kActivate)(kRows, gate.data(), up.data(), got.data(), kColumnBlock);
  for (size_t i = 0; i < kTile; ++i) {
    difference->Add(FromBf16(wanted[i]), FromBf16(got[i]));
  }
}

template <kernels::ActivateFn CpuKernels::*kActivate>
void CheckActivate(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(20);
  const CacheLines<float> x(values.Floats(kTile, 5));
  CacheLines<bf16_t> wanted(kTile), got(kTile);
  (kScalarKernels.*kActivate)(kRows, x.data(), wanted.data(), kColumnBlock);
  (kernels.*kActivate)(kRows, x.data(), got.data(), kColumnBlock);
  for (size_t i = 0; i < kTile; ++i) {
    difference->Add(FromBf16(wanted[i]), FromBf16(got[i]));
  }
}

void CheckRope(const CpuKernels& kernels, LargestDifference* difference) {
  constexpr int32_t kHalf = 40;
  SelfTestValues values(21);
  const CacheLines<float> x(values.Floats(2 * kHalf));
  const CacheLines<float> cos(values.Floats(kHalf)), sin(values.Floats(kHalf));
  CacheLines<bf16_t> wanted(2 * kHalf), got(2 * kHalf);
  kScalarKernels.rope(x.data(), cos.data(), sin.data(), kHalf, wanted.data());
  kernels.rope(x.data(), cos.data(), sin.data(), kHalf, got.data());
  for (int32_t i = 0; i < 2 * kHalf; ++i) {
    difference->Add(FromBf16(wanted[i]), FromBf16(got[i]));
  }
}

void CheckToBf16(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(22);
  const auto x = PaddedRow(&values);
  CacheLines<bf16_t> wanted(kSize), got(kSize);
  kScalarKernels.to_bf16(x.data(), kSize, wanted.data());
  kernels.to_bf16(x.data(), kSize, got.data());
  for (int32_t i = 0; i < kSize; ++i) {
    difference->Add(FromBf16(wanted[i]), FromBf16(got[i]));
  }
}

}  // namespace

std::vector<CpuKernelCheck> CpuRowChecks() {
  using I = kernels::Int8Kernels;
  using R = CpuRounding;
  return {
      {"rms_norm", &CheckNorm<&CpuKernels::rms_norm>, R::kBf16},
      {"layer_norm", &CheckNorm<&CpuKernels::layer_norm>, R::kBf16},
      {"add_rms_norm", &CheckAddRmsNorm, R::kFloat},
      {"head_norm", &CheckHeadNorm, R::kFloat},
      {"residual_add", &CheckResidualAdd, R::kNone},
      {"bias_add", &CheckBiasAdd, R::kNone},
      {"soft_cap", &CheckSoftCap, R::kFloat},
      {"silu_mul", &CheckActivateMul<&CpuKernels::silu_mul>, R::kBf16},
      {"gelu_mul", &CheckActivateMul<&CpuKernels::gelu_mul>, R::kBf16},
      {"silu", &CheckActivate<&CpuKernels::silu>, R::kBf16},
      {"gelu", &CheckActivate<&CpuKernels::gelu>, R::kBf16},
      {"rope", &CheckRope, R::kBf16},
      {"to_bf16", &CheckToBf16, R::kNone},
      {"int8 quantise", &CheckQuantise, R::kNone},
      {"int8 rms_norm", &CheckQuantisedNorm<&I::rms_norm>, R::kBf16},
      {"int8 layer_norm", &CheckQuantisedNorm<&I::layer_norm>, R::kBf16},
  };
}

}  // namespace descant
