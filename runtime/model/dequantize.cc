#include "runtime/model/dequantize.h"

#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/float16.h"

namespace descant {
namespace {

constexpr int kBlockElements = 32;
constexpr StorageTraits kTraits[] = {
    {"F32", 1, 4},    {"F16", 1, 2},    {"BF16", 1, 2},
    {"Q8_0", 32, 34}, {"Q4_0", 32, 18}, {"Q4_1", 32, 20},
};

template <typename T>
T LoadAs(const char* source) {
  T value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

float LoadHalf(const char* source) { return ToFloat(LoadAs<Float16>(source)); }

void DequantizeQ8_0(const char* block, float* out) {
  const float scale = LoadHalf(block);
  for (int j = 0; j < kBlockElements; ++j) {
    out[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * scale;
  }
}

void DequantizeQ4_0(const char* block, float* out) {
  const float scale = LoadHalf(block);
  for (int j = 0; j < kBlockElements / 2; ++j) {
    const uint8_t pair = static_cast<uint8_t>(block[2 + j]);
    out[j] = static_cast<float>((pair & 15) - 8) * scale;
    out[j + kBlockElements / 2] = static_cast<float>((pair >> 4) - 8) * scale;
  }
}

void DequantizeQ4_1(const char* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  for (int j = 0; j < kBlockElements / 2; ++j) {
    const uint8_t pair = static_cast<uint8_t>(block[4 + j]);
    out[j] = static_cast<float>(pair & 15) * scale + minimum;
    out[j + kBlockElements / 2] =
        static_cast<float>(pair >> 4) * scale + minimum;
  }
}

void DequantizeBlock(StorageType type, const char* block, float* out) {
  switch (type) {
    case StorageType::kF32:
      *out = LoadAs<float>(block);
      return;
    case StorageType::kF16:
      *out = LoadHalf(block);
      return;
    case StorageType::kBF16:
      *out = ToFloat(LoadAs<BFloat16>(block));
      return;
    case StorageType::kQ8_0:
      DequantizeQ8_0(block, out);
      return;
    case StorageType::kQ4_0:
      DequantizeQ4_0(block, out);
      return;
    case StorageType::kQ4_1:
      DequantizeQ4_1(block, out);
      return;
  }
}

}  // namespace

const StorageTraits& TraitsOf(StorageType type) {
  return kTraits[static_cast<size_t>(type)];
}

void Dequantize(StorageType type, absl::Span<const char> source,
                absl::Span<float> out) {
  const StorageTraits& traits = TraitsOf(type);
  const size_t blocks = out.size() / traits.block_elements;
  DESCANT_CHECK(blocks * traits.block_elements == out.size());
  DESCANT_CHECK(blocks * traits.block_bytes == source.size());
  for (size_t i = 0; i < blocks; ++i) {
    DequantizeBlock(type, source.data() + i * traits.block_bytes,
                    out.data() + i * traits.block_elements);
  }
}

}  // namespace descant
