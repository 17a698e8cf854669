// Who does what at the moment, read from the scheduler.
#ifndef DESCANT_RUNTIME_ENGINE_ACTIVITY_H_
#define DESCANT_RUNTIME_ENGINE_ACTIVITY_H_

#include "runtime/core/scheduler.h"
#include "runtime/engine.h"

namespace descant {

// A block that several sequences share counts once. O(sequences + blocks).
EngineActivity ActivityOf(const Scheduler& scheduler);

}  // namespace descant

#endif  // DESCANT_RUNTIME_ENGINE_ACTIVITY_H_
