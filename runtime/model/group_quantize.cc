#include "runtime/model/group_quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/model/dequantize_blocks.h"

namespace descant {
namespace {

using kernels::GroupFormat;
using kernels::kGroup;

// Codes of element j in the low nibbles, of j + 16 in the high ones.
void TakeNibbles(const uint8_t* nibbles, uint8_t* codes) {
  for (int j = 0; j < kGroup / 2; ++j) {
    codes[j] = nibbles[j] & 15;
    codes[j + kGroup / 2] = nibbles[j] >> 4;
  }
}

void TakeQ4_0(GroupFormat format, const uint8_t* block, int64_t group,
              GroupCodes* row) {
  uint8_t* codes = row->codes.data() + group * kGroup;
  const uint16_t d = LoadUnaligned<uint16_t>(block);
  TakeNibbles(block + 2, codes);
  row->d[group] = d;
  if (format == GroupFormat::k4Min) {
    // (code - 8) d = code d - 8 d, both exact.
    row->m[group] = ToFloat16(-8.0f * ToFloat(Float16{d})).bits;
  } else if (format == GroupFormat::k8) {
    for (int j = 0; j < kGroup; ++j) {
      codes[j] = static_cast<uint8_t>(codes[j] - 8);
    }
  }
}

void Quantize8(const float* values, int32_t count, int64_t group,
               GroupCodes* row) {
  float most = 0;
  for (int32_t i = 0; i < count; ++i) {
    most = std::max(most, std::abs(values[i]));
  }
  const Float16 d = ToFloat16(most / 127.0f);
  const float scale = ToFloat(d);
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  uint8_t* codes = row->codes.data() + group * kGroup;
  for (int32_t i = 0; i < count; ++i) {
    const float code = std::min(
        std::max(-127.0f, std::nearbyint(values[i] * inverse)), 127.0f);
    codes[i] = static_cast<uint8_t>(static_cast<int8_t>(code));
  }
  row->d[group] = d.bits;
}

struct Fit {
  float d = 0;
  float m = 0;
};

// Codes for x = d code + m. Rounding by addition: the loop has no calls.
void Codes4(const float* values, const Fit& fit, float* codes) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  const float inverse = fit.d != 0 ? 1.0f / fit.d : 0.0f;
  for (int i = 0; i < kGroup; ++i) {
    const float code = ((values[i] - fit.m) * inverse + kRound) - kRound;
    codes[i] = std::min(std::max(0.0f, code), 15.0f);
  }
}

// The least squares for given codes; `fit` where all codes are equal.
Fit Refit(const float* values, const float* codes, const Fit& fit) {
  float sum = 0, sum_code = 0, sum_square = 0, sum_product = 0;
  for (int i = 0; i < kGroup; ++i) {
    sum += values[i];
    sum_code += codes[i];
    sum_square += codes[i] * codes[i];
    sum_product += codes[i] * values[i];
  }
  const float divisor = kGroup * sum_square - sum_code * sum_code;
  if (divisor <= 0) return fit;
  return {(kGroup * sum_product - sum * sum_code) / divisor,
          (sum_square * sum - sum_code * sum_product) / divisor};
}

float ErrorOf(const float* values, const float* codes, const Fit& fit) {
  float error = 0;
  for (int i = 0; i < kGroup; ++i) {
    const float off = codes[i] * fit.d + fit.m - values[i];
    error += off * off;
  }
  return error;
}

Fit RoundFit(const Fit& fit) {
  return {ToFloat(ToFloat16(fit.d)), ToFloat(ToFloat16(fit.m))};
}

void Quantize4(const float* values, int32_t count, int64_t group,
               GroupCodes* row) {
  // A short group is filled up with its first value, which no fit minds much.
  float x[kGroup];
  std::copy_n(values, count, x);
  std::fill(x + count, x + kGroup, values[0]);
  const auto [least, most] = std::minmax_element(x, x + kGroup);
  const float range = *most - *least;
  Fit best = RoundFit({range / 15.0f, *least});
  float codes[kGroup];
  Codes4(x, best, codes);
  float least_error = ErrorOf(x, codes, best);
  for (const float levels : {13.5f, 14.0f, 14.5f, 15.0f, 15.5f, 16.0f}) {
    if (range <= 0) break;
    const Fit start = {range / levels, *least};
    Codes4(x, start, codes);
    const Fit fit = RoundFit(Refit(x, codes, start));
    Codes4(x, fit, codes);
    const float error = ErrorOf(x, codes, fit);
    if (error < least_error) {
      least_error = error;
      best = fit;
    }
  }
  Codes4(x, best, codes);
  for (int32_t i = 0; i < count; ++i) {
    row->codes[group * kGroup + i] = static_cast<uint8_t>(codes[i]);
  }
  row->d[group] = ToFloat16(best.d).bits;
  row->m[group] = ToFloat16(best.m).bits;
}

}  // namespace

void GroupCodes::Resize(int64_t k) {
  const int64_t groups = (k + kGroup - 1) / kGroup;
  codes.resize(groups * kGroup);
  d.resize(groups);
  m.resize(groups);
}

bool HoldsStored(GroupFormat format, StorageType type) {
  switch (type) {
    case StorageType::kQ4_0:
      return true;
    case StorageType::kQ4_1:
      return format == GroupFormat::k4Min;
    case StorageType::kQ8_0:
      return format == GroupFormat::k8;
    default:
      return false;
  }
}

void TakeStored(GroupFormat format, StorageType type,
                absl::Span<const char> blocks, GroupCodes* row) {
  DESCANT_CHECK(HoldsStored(format, type));
  const StorageTraits& traits = TraitsOf(type);
  const int64_t groups =
      static_cast<int64_t>(blocks.size()) / traits.block_bytes;
  row->Resize(groups * kGroup);
  const auto* block = reinterpret_cast<const uint8_t*>(blocks.data());
  for (int64_t group = 0; group < groups; ++group) {
    uint8_t* codes = row->codes.data() + group * kGroup;
    if (type == StorageType::kQ4_0) {
      TakeQ4_0(format, block, group, row);
    } else if (type == StorageType::kQ4_1) {
      row->d[group] = LoadUnaligned<uint16_t>(block);
      row->m[group] = LoadUnaligned<uint16_t>(block + 2);
      TakeNibbles(block + 4, codes);
    } else {
      row->d[group] = LoadUnaligned<uint16_t>(block);
      std::memcpy(codes, block + 2, kGroup);
    }
    block += traits.block_bytes;
  }
}

void QuantizeRow(GroupFormat format, absl::Span<const float> values,
                 GroupCodes* row) {
  DESCANT_CHECK(format != GroupFormat::k4);
  const int64_t k = static_cast<int64_t>(values.size());
  row->Resize(k);
  for (int64_t first = 0; first < k; first += kGroup) {
    const int32_t count =
        static_cast<int32_t>(std::min<int64_t>(kGroup, k - first));
    if (format == GroupFormat::k8) {
      Quantize8(values.data() + first, count, first / kGroup, row);
    } else {
      Quantize4(values.data() + first, count, first / kGroup, row);
    }
  }
}

}  // namespace descant
