#include "runtime/model/cuda_self_test.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/model/cuda_device.h"
#include "runtime/model/cuda_self_test_arrays.h"

namespace descant {
namespace {

using kernels::CudaKernels;
using kernels::kCudaKvBlock;

constexpr double kAbsolute = 1e-5;  // where a value is about 0

void CheckEmbed(const CudaKernels& kernels, CudaTestArrays* arrays,
                LargestDifference* difference) {
  constexpr int32_t kWidth = 72, kVocab = 5, kPositions = 4;
  constexpr float kScale = 1.5f;
  const std::vector<int32_t> tokens = {4, 0, -2, 2};  // -2: of the last ones
  const std::vector<int32_t> positions = {3, 0, 2, 1};
  const std::vector<int32_t> last_tokens = {1, 3};
  const std::vector<int32_t> resolved = {4, 0, 3, 2};
  const auto rows = static_cast<int32_t>(tokens.size());
  SelfTestValues values(1);
  const auto table = arrays->Halves(kVocab * kWidth, &values);
  const auto learned = arrays->Halves(kPositions * kWidth, &values);
  float* const x = arrays->Zeros<float>(rows * kWidth);
  arrays->Launch(kernels.embed, {.tokens = arrays->Upload(tokens),
                                 .positions = arrays->Upload(positions),
                                 .last_tokens = arrays->Upload(last_tokens),
                                 .rows = rows,
                                 .embedding = arrays->Upload(table),
                                 .position_embedding = arrays->Upload(learned),
                                 .width = kWidth,
                                 .scale = kScale,
                                 .x = x,
                                 .x_stride = kWidth,
                                 .stream = arrays->stream()});
  const auto got = arrays->Download(x, rows * kWidth);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kWidth; ++i) {
      difference->Add(
          kScale * arrays->Float(table[resolved[row] * kWidth + i]) +
              arrays->Float(learned[positions[row] * kWidth + i]),
          got[row * kWidth + i]);
    }
  }
}

// x after the addition, and its norm: RMS with a norm of the addition, or with
// bias the other one.
void CheckNormKind(const CudaKernels& kernels, bool layer_norm,
                   CudaTestArrays* arrays, LargestDifference* difference) {
  constexpr int32_t kWidth = 264, kSources = 3;
  constexpr float kEps = 1e-5f;
  const std::vector<int32_t> sources = {2, -1, 0};
  SelfTestValues values(2);
  const auto before = values.Floats(kSources * kWidth, 2);
  const auto delta = arrays->Halves(kSources * kWidth, &values);
  const auto weight = values.Floats(kWidth), post = values.Floats(kWidth);
  const auto bias = values.Floats(kWidth);
  float* const x = arrays->Upload(before);
  auto* const out = arrays->Zeros<uint16_t>(sources.size() * kWidth);
  arrays->Launch(kernels.norm,
                 {.x = x,
                  .x_stride = kWidth,
                  .delta = arrays->Upload(delta),
                  .delta_stride = kWidth,
                  .post_weight = layer_norm ? nullptr : arrays->Upload(post),
                  .source_rows = arrays->Upload(sources),
                  .rows = static_cast<int32_t>(sources.size()),
                  .width = kWidth,
                  .weight = arrays->Upload(weight),
                  .bias = layer_norm ? arrays->Upload(bias) : nullptr,
                  .eps = kEps,
                  .out = out,
                  .out_stride = kWidth,
                  .stream = arrays->stream()});
  const auto after = arrays->Download(x, before.size());
  const auto got = arrays->Download(out, sources.size() * kWidth);
  for (size_t row = 0; row < sources.size(); ++row) {
    const int32_t from = sources[row] * kWidth;
    double squares = 0, mean = 0, variance = 0;
    std::vector<double> wanted(kWidth);
    for (int32_t i = 0; i < kWidth && from >= 0; ++i) {
      squares += std::pow(arrays->Float(delta[from + i]), 2) / kWidth;
    }
    const double factor = layer_norm ? 1 : 1 / std::sqrt(squares + kEps);
    for (int32_t i = 0; i < kWidth && from >= 0; ++i) {
      wanted[i] = before[from + i] + arrays->Float(delta[from + i]) * factor *
                                         (layer_norm ? 1 : post[i]);
      difference->Add(wanted[i], after[from + i]);
      if (layer_norm) mean += wanted[i] / kWidth;
    }
    for (const double value : wanted) {
      variance += (value - mean) * (value - mean) / kWidth;
    }
    for (int32_t i = 0; i < kWidth; ++i) {
      const double normed =
          from < 0
              ? 0
              : (wanted[i] - mean) / std::sqrt(variance + kEps) * weight[i] +
                    (layer_norm ? bias[i] : 0);
      difference->Add(normed, arrays->Float(got[row * kWidth + i]));
    }
  }
}

void CheckNorm(const CudaKernels& kernels, CudaTestArrays* arrays,
               LargestDifference* difference) {
  CheckNormKind(kernels, false, arrays, difference);
  CheckNormKind(kernels, true, arrays, difference);
}

void CheckActivate(const CudaKernels& kernels, CudaTestArrays* arrays,
                   LargestDifference* difference) {
  constexpr int32_t kWidth = 72, kRows = 3;
  SelfTestValues values(3);
  const auto gate_up = arrays->Halves(values.Floats(kRows * 2 * kWidth, 5));
  for (const bool gated : {true, false}) {
    const auto kind = gated ? kernels::CudaActivation::kSilu
                            : kernels::CudaActivation::kGeluTanh;
    auto* const out = arrays->Zeros<uint16_t>(kRows * kWidth);
    arrays->Launch(kernels.activate, {.gate_up = arrays->Upload(gate_up),
                                      .gate_up_stride = 2 * kWidth,
                                      .rows = kRows,
                                      .width = kWidth,
                                      .gated = gated,
                                      .activation = kind,
                                      .out = out,
                                      .out_stride = kWidth,
                                      .stream = arrays->stream()});
    const auto got = arrays->Download(out, kRows * kWidth);
    for (int32_t i = 0; i < kRows * kWidth; ++i) {
      const int32_t at = i / kWidth * 2 * kWidth + i % kWidth;
      const double x = arrays->Float(gate_up[at]);
      const double wanted =
          gated ? x / (1 + std::exp(-x)) * arrays->Float(gate_up[at + kWidth])
                : x / 2 *
                      (1 + std::tanh(std::sqrt(2 / M_PI) *
                                     (x + 0.044715 * x * x * x)));
      difference->Add(wanted, arrays->Float(got[i]));
    }
  }
}

// Pages of numbers that tell where they lie.
constexpr int32_t kKvHeads = 2, kHeadDim = 80, kPages = 4;
constexpr int32_t kPageSize = kKvHeads * kCudaKvBlock * kHeadDim;

std::vector<uint16_t> Numbers(uint16_t from) {
  std::vector<uint16_t> numbers(kPages * kPageSize);
  for (uint16_t& number : numbers) number = from++;
  return numbers;
}

void CheckGatherKv(const CudaKernels& kernels, CudaTestArrays* arrays,
                   LargestDifference* difference) {
  constexpr int32_t kTokens = 41, kRow = kKvHeads * kHeadDim;
  const std::vector<int32_t> table = {3, 1};
  const auto keys = Numbers(1), values = Numbers(31234);
  auto* const to_keys = arrays->Zeros<uint16_t>(kTokens * kRow);
  auto* const to_values = arrays->Zeros<uint16_t>(kTokens * kRow);
  arrays->Launch(kernels.gather_kv,
                 {.kv = {arrays->Upload(keys), arrays->Upload(values)},
                  .block_table = arrays->Upload(table),
                  .tokens = kTokens,
                  .kv_heads = kKvHeads,
                  .head_dim = kHeadDim,
                  .keys = to_keys,
                  .values = to_values,
                  .stream = arrays->stream()});
  const auto got_keys = arrays->Download(to_keys, kTokens * kRow);
  const auto got_values = arrays->Download(to_values, kTokens * kRow);
  for (int32_t i = 0; i < kTokens * kRow; ++i) {
    const int32_t position = i / kRow, head = i % kRow / kHeadDim;
    const int32_t from =
        table[position / kCudaKvBlock] * kPageSize +
        (head * kCudaKvBlock + position % kCudaKvBlock) * kHeadDim +
        i % kHeadDim;
    difference->Add(keys[from], got_keys[i]);
    difference->Add(values[from], got_values[i]);
  }
}

void CheckClearBlocks(const CudaKernels& kernels, CudaTestArrays* arrays,
                      LargestDifference* difference) {
  const std::vector<int32_t> blocks = {3, 1};
  const auto keys = Numbers(1), values = Numbers(31234);
  auto* const device_keys = arrays->Upload(keys);
  auto* const device_values = arrays->Upload(values);
  arrays->Launch(kernels.clear_blocks, {.kv = {device_keys, device_values},
                                        .blocks = arrays->Upload(blocks),
                                        .count = 2,
                                        .kv_heads = kKvHeads,
                                        .head_dim = kHeadDim,
                                        .stream = arrays->stream()});
  const auto got_keys = arrays->Download(device_keys, keys.size());
  const auto got_values = arrays->Download(device_values, values.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool cleared = i / kPageSize == 3 || i / kPageSize == 1;
    difference->Add(cleared ? 0 : keys[i], got_keys[i]);
    difference->Add(cleared ? 0 : values[i], got_values[i]);
  }
}

// The library's, which adds in any order.
void CheckProduct(const CudaKernels& /*kernels*/, CudaTestArrays* arrays,
                  LargestDifference* difference) {
  constexpr int32_t kRows = 5, kColumns = 40, kDepth = 264;
  SelfTestValues values(4);
  const auto x = arrays->Halves(kRows * kDepth, &values);
  const auto w = arrays->Halves(kColumns * kDepth, &values);
  const auto bias = arrays->Halves(kColumns, &values);
  auto* const y = arrays->Zeros<uint16_t>(kRows * kColumns);
  arrays->Multiply({.x = arrays->Upload(x),
                    .x_stride = kDepth,
                    .w = arrays->Upload(w),
                    .bias = arrays->Upload(bias),
                    .y = y,
                    .y_stride = kColumns,
                    .rows = kRows,
                    .columns = kColumns,
                    .depth = kDepth});
  const auto got = arrays->Download(y, kRows * kColumns);
  for (int32_t i = 0; i < kRows * kColumns; ++i) {
    double sum = arrays->Float(bias[i % kColumns]);
    for (int32_t k = 0; k < kDepth; ++k) {
      sum += double{arrays->Float(x[i / kColumns * kDepth + k])} *
             arrays->Float(w[i % kColumns * kDepth + k]);
    }
    difference->Add(sum, arrays->Float(got[i]));
  }
}

// What a result may be off by.
enum class Rounding { kNone, kFloat, kHalf };

struct KernelCheck {
  const char* name;
  void (*check)(const CudaKernels&, CudaTestArrays*, LargestDifference*);
  Rounding rounding;
};

// One for each member of CudaKernels, in its order; then the library's.
constexpr KernelCheck kChecks[] = {
    {"kernel route", &CheckRoute, Rounding::kNone},
    {"kernel shrink", &CheckShrink, Rounding::kFloat},
    {"kernel expand", &CheckExpand, Rounding::kHalf},
    {"kernel embed", &CheckEmbed, Rounding::kFloat},
    {"kernel norm", &CheckNorm, Rounding::kHalf},
    {"kernel rope", &CheckRope, Rounding::kHalf},
    {"kernel attention", &CheckAttention, Rounding::kHalf},
    {"kernel gather_kv", &CheckGatherKv, Rounding::kNone},
    {"kernel activate", &CheckActivate, Rounding::kHalf},
    {"kernel clear_blocks", &CheckClearBlocks, Rounding::kNone},
    {"kernel widen_logits", &CheckWidenLogits, Rounding::kFloat},
    {"kernel sample", &CheckSample, Rounding::kFloat},
    {"kernel accept_drafts", &CheckAcceptDrafts, Rounding::kNone},
    {"library attention", &CheckChunkAttention, Rounding::kHalf},
    {"library product", &CheckProduct, Rounding::kHalf},
};

double BoundOf(Rounding rounding, kernels::HalfType half) {
  switch (rounding) {
    case Rounding::kNone:
      return 0;
    case Rounding::kFloat:
      return kAbsolute;
    case Rounding::kHalf:
      break;
  }
  // Half a unit in the last place, of the result and of what it is made of.
  return kAbsolute +
         (half == kernels::HalfType::kBf16 ? 1.5 * 0x1p-8 : 1.5 * 0x1p-11);
}

}  // namespace

void TestCudaKernels(Device* device, SelfTestReport report) {
  for (const KernelCheck& entry : kChecks) {
    CudaTestArrays arrays(device);
    LargestDifference difference;
    entry.check(device->kernels(), &arrays, &difference);
    SelfTestCheck check;
    check.name = entry.name;
    check.error = difference.error();
    check.bound = BoundOf(entry.rounding, device->half());
    check.status = arrays.status();
    report(check);
  }
}

void TestFirstGpuKernels(SelfTestReport report) {
  const auto device = MakeCudaDevice(0, kernels::HalfType::kBf16);
  if (device.ok()) return TestCudaKernels(device->get(), report);
  SelfTestCheck check;
  check.name = "device";
  check.status = device.status();
  report(check);
}

}  // namespace descant
