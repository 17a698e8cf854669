// Monotonic time behind an interface, so that tests own it.
#ifndef DESCANT_RUNTIME_BASE_CLOCK_H_
#define DESCANT_RUNTIME_BASE_CLOCK_H_

#include <chrono>

namespace descant {

// Deadlines, queue times and latencies. A wall clock that jumps never moves
// these.
using MonotonicTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

inline constexpr MonotonicTime kNoDeadline = MonotonicTime::max();

inline double ToSeconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonotonicTime Now() const = 0;
  // The wall clock in Unix seconds: for records and metrics, never for waiting.
  virtual double UnixSeconds() const = 0;
};

class SystemClock final : public Clock {
 public:
  MonotonicTime Now() const override {
    return std::chrono::steady_clock::now();
  }
  double UnixSeconds() const override {
    return std::chrono::duration<double>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_CLOCK_H_
