#include "server/cli/run/window.h"

#include <algorithm>
#include <chrono>

namespace descant::cli {

constexpr Duration kFirstBackoff = std::chrono::milliseconds(100);
constexpr Duration kLongestBackoff = std::chrono::seconds(10);
constexpr Duration kLongestPause = std::chrono::minutes(5);
constexpr int kMaxDoublings = 10;
// Answers to each place of a window before it grows by one.
constexpr int kRoundsToGrow = 2;

namespace {

Duration Scaled(Duration duration, double factor) {
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(ToSeconds(duration) * factor));
}

}  // namespace

Window::Window(int most, uint64_t seed)
    : most_(most), seed_(seed), limit_(most) {}

bool Window::MayStart(int in_flight, MonotonicTime now) const {
  if (now < resume_at_) return false;
  return in_flight < (unreachable_since_ ? 1 : limit_);
}

void Window::OnAnswer() {
  unreachable_since_.reset();
  failures_ = 0;
  if (++credit_ < limit_ * kRoundsToGrow) return;
  credit_ = 0;
  limit_ = std::min(limit_ + 1, most_);
}

void Window::OnOverload(int in_flight, Duration retry_delay,
                        MonotonicTime now) {
  unreachable_since_.reset();
  failures_ = 0;
  // The last refusal of a burst leaves what was accepted.
  limit_ = std::clamp(in_flight, 1, limit_);
  credit_ = 0;
  const Duration pause =
      std::min(std::max(retry_delay, kFirstBackoff), kLongestPause);
  // Never earlier than asked.
  resume_at_ = std::max(resume_at_, now + Scaled(pause, Jitter() + 0.25));
}

void Window::OnUnreachable(Duration at_least, MonotonicTime now) {
  if (!unreachable_since_) unreachable_since_ = now;
  // All calls of one connection break at once.
  if (now < resume_at_) return;
  const Duration backoff =
      std::min(kFirstBackoff * (1 << std::min(failures_, kMaxDoublings)),
               kLongestBackoff);
  ++failures_;
  resume_at_ = now + std::max(Scaled(backoff, Jitter()), at_least);
}

double Window::Jitter() {
  seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
  return 0.75 + static_cast<double>(seed_ >> 40) / (1 << 25);
}

}  // namespace descant::cli
