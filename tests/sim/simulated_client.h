// A request of the simulation and what came of it.
#ifndef DESCANT_TESTS_SIM_SIMULATED_CLIENT_H_
#define DESCANT_TESTS_SIM_SIMULATED_CLIENT_H_

#include <cstdint>
#include <vector>

#include "runtime/core/request.h"
#include "tests/testing/fake_runner.h"

namespace descant {

// One answer of a request.
struct Choice {
  ExpectedAnswer alone;
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kNone;
};

struct Client {
  Request request;
  std::vector<Choice> choices;
  std::vector<float> scores;  // of the prompt
  int64_t arrives = 0;
  int64_t aborts = -1;
  bool done = false;
  bool paused = false;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_SIMULATED_CLIENT_H_
