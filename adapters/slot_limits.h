// What one tenant may have of the device's adapter slots.
#ifndef DESCANT_ADAPTERS_SLOT_LIMITS_H_
#define DESCANT_ADAPTERS_SLOT_LIMITS_H_

#include <cstdint>

namespace descant {

// Pinned slots don't count. See slot_table.h.
struct SlotLimits {
  // While others want slots it keeps so many for its idle adapters, at most an
  // equal share; 0: an equal share.
  int32_t share = 0;
  // At a time, whoever else wants slots or not; 0: no limit.
  int32_t most = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_SLOT_LIMITS_H_
