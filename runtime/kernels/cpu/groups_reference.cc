// The oracle of the kernels on groups: element by element.
#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/groups.h"

namespace descant::kernels {
namespace {

template <GroupFormat kFormat>
void Expand(int32_t k_pairs, const uint8_t* block, const uint8_t* /*next*/,
            bf16_t* out) {
  for (int32_t k = 0; k < 2 * k_pairs; ++k) {
    for (int32_t n = 0; n < kColumnBlock; ++n) {
      out[k / 2 * 2 * kColumnBlock + 2 * n + k % 2] =
          ToBFloat16(UnpackGroup(kFormat, block, n, k)).bits;
    }
  }
}

}  // namespace

const GroupKernels kScalarGroups = {
    {&Expand<GroupFormat::k4>, &Expand<GroupFormat::k4Min>,
     &Expand<GroupFormat::k8>},
    0,
    {nullptr, nullptr, nullptr}};

}  // namespace descant::kernels
