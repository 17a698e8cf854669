// Philox4x32-10, the counter-based generator of J. Salmon et al., "Parallel
// Random Numbers: As Easy as 1, 2, 3" (SC 2011): noise is a pure function of
// (key, counter), so that preemption, chunking and neighbours change nothing.
#ifndef DESCANT_RUNTIME_MODEL_PHILOX_H_
#define DESCANT_RUNTIME_MODEL_PHILOX_H_

#include <array>
#include <cstdint>

namespace descant {

inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53u;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u;
  constexpr uint32_t kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_PHILOX_H_
