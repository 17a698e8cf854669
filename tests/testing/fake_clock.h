// A clock that moves only when a test moves it.
#ifndef DESCANT_TESTS_TESTING_FAKE_CLOCK_H_
#define DESCANT_TESTS_TESTING_FAKE_CLOCK_H_

#include <atomic>

#include "runtime/base/clock.h"

namespace descant {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  MonotonicTime Now() const override {
    return MonotonicTime(Duration(now_.load()));
  }
  double UnixSeconds() const override {
    return 1.7e9 + ToSeconds(Duration(now_.load()));
  }
  void Advance(Duration duration) { now_ += duration.count(); }

 private:
  // Not at zero, which is MonotonicTime's "never" in records.
  std::atomic<Duration::rep> now_{Duration(std::chrono::seconds(1)).count()};
};

}  // namespace descant

#endif  // DESCANT_TESTS_TESTING_FAKE_CLOCK_H_
