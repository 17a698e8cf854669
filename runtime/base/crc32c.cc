#include "runtime/base/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace descant {
namespace {

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    }
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

__attribute__((target("sse4.2"))) uint32_t Crc32cSse42(absl::string_view data) {
  uint64_t crc = 0xffffffffu;
  const char* at = data.data();
  size_t left = data.size();
  for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, at, sizeof word);
    crc = _mm_crc32_u64(crc, word);
    at += sizeof word;
  }
  uint32_t rest = static_cast<uint32_t>(crc);
  for (; left > 0; --left) {
    rest = _mm_crc32_u8(rest, static_cast<unsigned char>(*at++));
  }
  return ~rest;
}

}  // namespace

uint32_t Crc32cPortable(absl::string_view data) {
  uint32_t crc = 0xffffffffu;
  for (const char c : data) {
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  }
  return ~crc;
}

uint32_t Crc32c(absl::string_view data) {
  static const bool hardware = __builtin_cpu_supports("sse4.2") != 0;
  return hardware ? Crc32cSse42(data) : Crc32cPortable(data);
}

}  // namespace descant
