// What the device tests ask of the CUDA runtime.
#ifndef DESCANT_TESTS_GPU_GPU_MEMORY_H_
#define DESCANT_TESTS_GPU_GPU_MEMORY_H_

#include "absl/status/status.h"

namespace descant::gpu {

// Waits for what was launched on the current device. INTERNAL: what failed
// meanwhile; no later call succeeds then.
absl::Status Synchronise();

}  // namespace descant::gpu

#endif  // DESCANT_TESTS_GPU_GPU_MEMORY_H_
