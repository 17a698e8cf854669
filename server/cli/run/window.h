// How many lines may be in flight, and when the next may start.
#ifndef DESCANT_SERVER_CLI_RUN_WINDOW_H_
#define DESCANT_SERVER_CLI_RUN_WINDOW_H_

#include <cstdint>
#include <optional>

#include "runtime/base/clock.h"

namespace descant::cli {

// Comes down to what the server takes, and tries one more now and then, below a
// fixed most. A value machine: callers bring the time. Thread-compatible.
class Window {
 public:
  // REQUIRES: most >= 1. `seed` is of the jitter.
  Window(int most, uint64_t seed);

  // Whether one more may start beside `in_flight`.
  bool MayStart(int in_flight, MonotonicTime now) const;

  // The server answered, or refused a line for the line's own sake.
  void OnAnswer();
  // It is full and says when to come back: no more than the `in_flight` that it
  // did not refuse, and none before that.
  void OnOverload(int in_flight, Duration retry_delay, MonotonicTime now);
  // Nobody answers, or only to say goodbye: one line at a time asks, later and
  // later, until there is an answer. `at_least` is what the server said.
  void OnUnreachable(Duration at_least, MonotonicTime now);

  int limit() const { return limit_; }
  MonotonicTime resume_at() const { return resume_at_; }
  // Since when nobody answers; empty while somebody does.
  std::optional<MonotonicTime> unreachable_since() const {
    return unreachable_since_;
  }

 private:
  double Jitter();  // in [0.75, 1.25)

  const int most_;
  uint64_t seed_;
  int limit_;
  int credit_ = 0;
  int failures_ = 0;
  MonotonicTime resume_at_{};
  std::optional<MonotonicTime> unreachable_since_;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_RUN_WINDOW_H_
