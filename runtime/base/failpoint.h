// Named places where a test makes the server fail or die. Always compiled in:
// an unarmed failpoint costs one relaxed load, and none is hit more than once a
// step.
#ifndef DESCANT_RUNTIME_BASE_FAILPOINT_H_
#define DESCANT_RUNTIME_BASE_FAILPOINT_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace descant {

enum class FailAction {
  kError,  // Failpoint() returns DATA_LOSS
  kKill,   // the process ends at once, as by kill -9
};

// Arms `name`: its first `skip` hits pass, the next one acts, then it is
// disarmed. Thread-safe.
void ArmFailpoint(absl::string_view name, FailAction action, int32_t skip = 0);
void DisarmFailpoints();

// Arms from text: "store.before_rename=kill,store.after_journal=error:3" (3:
// hits to skip). INVALID_ARGUMENT where it is not of that form.
absl::Status ArmFailpointsFromText(absl::string_view text);

namespace internal {
extern std::atomic<int32_t> armed_failpoints;
absl::Status HitFailpoint(absl::string_view name);
}  // namespace internal

inline absl::Status Failpoint(absl::string_view name) {
  if (internal::armed_failpoints.load(std::memory_order_relaxed) == 0) {
    return absl::OkStatus();
  }
  return internal::HitFailpoint(name);
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_FAILPOINT_H_
