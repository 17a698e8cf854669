// A request of the simulation and what came of it.
#ifndef DESCANT_TESTS_SIM_SIMULATED_CLIENT_H_
#define DESCANT_TESTS_SIM_SIMULATED_CLIENT_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/request.h"
#include "tests/testing/fake_runner.h"

namespace descant {

// One answer of a request.
struct Choice {
  ExpectedAnswer alone;
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kNone;
};

// As alone, or its beginning where it was not to end. `may_fail`: where
// something else than the client or a deadline may end it.
inline void CheckChoice(RequestId id, const Choice& choice, bool may_fail) {
  switch (choice.finish) {
    case FinishReason::kLength:
    case FinishReason::kEndOfSequence:
    case FinishReason::kStopToken:
      EXPECT_EQ(choice.tokens, choice.alone.tokens) << "request " << id;
      EXPECT_EQ(choice.finish, choice.alone.reason) << "request " << id;
      return;
    case FinishReason::kError:
      EXPECT_TRUE(may_fail) << "request " << id;
      break;
    default:
      break;
  }
  ASSERT_LE(choice.tokens.size(), choice.alone.tokens.size());
  EXPECT_TRUE(std::equal(choice.tokens.begin(), choice.tokens.end(),
                         choice.alone.tokens.begin()))
      << "request " << id;
}

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
