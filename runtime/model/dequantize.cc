#include "runtime/model/dequantize.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/model/dequantize_blocks.h"

namespace descant {
namespace {

void WidenF32(const uint8_t* source, size_t count, float* out) {
  std::memcpy(out, source, count * sizeof(float));
}

// As ToFloat(Float16), without branches.
void WidenF16(const uint8_t* source, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t half = LoadUnaligned<uint16_t>(source + 2 * i);
    const uint32_t magnitude = (half & 0x7fff) << 13;
    const uint32_t normal = magnitude + (112u << 23);
    // A subnormal's mantissa below a leading 2^-14, less that.
    const uint32_t subnormal = std::bit_cast<uint32_t>(
        std::bit_cast<float>(magnitude + (113u << 23)) - 0x1p-14f);
    const uint32_t infinite = magnitude | 0x7f800000u;
    uint32_t bits = magnitude < (1u << 23) ? subnormal : normal;
    bits = magnitude >= (31u << 23) ? infinite : bits;
    out[i] = std::bit_cast<float>(bits | (half & 0x8000) << 16);
  }
}

void WidenBF16(const uint8_t* source, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = ToFloat(LoadUnaligned<BFloat16>(source + 2 * i));
  }
}

// As ToBFloat16, without branches.
void Round(const float* values, size_t count, BFloat16* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t quiet = bits >> 16 | 0x0040;
    const bool nan = static_cast<int32_t>(bits & 0x7fffffff) > 0x7f800000;
    out[i].bits = static_cast<uint16_t>(nan ? quiet : rounded);
  }
}

struct Entry {
  StorageTraits traits;
  void (*run)(const uint8_t* source, size_t blocks, float* out);
};

// By StorageType.
constexpr Entry kEntries[] = {
    {{"F32", 1, 4}, WidenF32},
    {{"F16", 1, 2}, WidenF16},
    {{"BF16", 1, 2}, WidenBF16},
    {{"Q8_0", 32, 34}, DequantizeQ8_0},
    {{"Q4_0", 32, 18}, DequantizeQ4_0},
    {{"Q4_1", 32, 20}, DequantizeQ4_1},
    {{"Q5_0", 32, 22}, DequantizeQ5_0},
    {{"Q5_1", 32, 24}, DequantizeQ5_1},
    {{"IQ4_NL", 32, 18}, DequantizeIQ4_NL},
    {{"Q2_K", 256, 84}, DequantizeQ2_K},
    {{"Q3_K", 256, 110}, DequantizeQ3_K},
    {{"Q4_K", 256, 144}, DequantizeQ4_K},
    {{"Q5_K", 256, 176}, DequantizeQ5_K},
    {{"Q6_K", 256, 210}, DequantizeQ6_K},
    {{"IQ4_XS", 256, 136}, DequantizeIQ4_XS},
};
static_assert(std::size(kEntries) == kStorageTypes);

}  // namespace

const StorageTraits& TraitsOf(StorageType type) {
  return kEntries[static_cast<size_t>(type)].traits;
}

void Dequantize(StorageType type, absl::Span<const char> source,
                absl::Span<float> out) {
  const Entry& entry = kEntries[static_cast<size_t>(type)];
  const size_t blocks = out.size() / entry.traits.block_elements;
  DESCANT_CHECK(blocks * entry.traits.block_elements == out.size());
  DESCANT_CHECK(blocks * entry.traits.block_bytes == source.size());
  entry.run(reinterpret_cast<const uint8_t*>(source.data()), blocks,
            out.data());
}

void DequantizeToBf16(StorageType type, absl::Span<const char> source,
                      absl::Span<BFloat16> out) {
  const StorageTraits& traits = TraitsOf(type);
  if (type == StorageType::kBF16) {
    DESCANT_CHECK(source.size() == out.size() * sizeof(BFloat16));
    std::memcpy(out.data(), source.data(), source.size());
    return;
  }
  constexpr size_t kChunk = 1024;  // a whole number of blocks of any type
  float values[kChunk];
  const size_t chunk_bytes =
      kChunk / traits.block_elements * traits.block_bytes;
  while (!out.empty()) {
    const size_t count = std::min(kChunk, out.size());
    Dequantize(type, source.subspan(0, std::min(chunk_bytes, source.size())),
               absl::MakeSpan(values, count));
    Round(values, count, out.data());
    source.remove_prefix(std::min(chunk_bytes, source.size()));
    out.remove_prefix(count);
  }
}

}  // namespace descant
