#include "server/edge_context.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "runtime/base/reason.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {

uint64_t EdgeContext::DrawSeed() {
  // SplitMix64 (Steele, Lea, Flood 2014) over a counter with a random start.
  uint64_t z = seed_state.fetch_add(0x9e3779b97f4a7c15) + 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

MonotonicTime EdgeContext::DeadlineOf(
    const grpc::CallbackServerContext& context) const {
  const MonotonicTime now = clock->Now();
  const MonotonicTime latest = now + options.request_timeout;
  const auto deadline = context.deadline();
  const auto wall = std::chrono::system_clock::now();
  // Compared before it is subtracted: "none" is the largest time there is.
  if (deadline > wall + options.request_timeout) return latest;
  return now + std::chrono::duration_cast<Duration>(deadline - wall);
}

std::string AdapterLabel(absl::string_view tenant, absl::string_view name) {
  return tenant.empty() ? std::string(name) : absl::StrCat(tenant, "/", name);
}

absl::Status CheckAdmitting(const EdgeContext& edge) {
  if (!edge.draining.load(std::memory_order_relaxed)) return absl::OkStatus();
  return ReasonedError(absl::StatusCode::kUnavailable, reason::kDraining,
                       "the server is shutting down");
}

absl::Status PoolFull() {
  return ReasonedError(absl::StatusCode::kUnavailable, reason::kQueueFull,
                       "the server has too many requests waiting");
}

absl::Status ReaderStopped() {
  return ReasonedError(absl::StatusCode::kResourceExhausted,
                       reason::kStreamStalled,
                       "the reader of this stream stopped for too long");
}

}  // namespace descant
