#include "server/wait_estimate.h"

#include <algorithm>
#include <chrono>

#include "runtime/base/reason.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

// The mean forgets what lies this many values back.
constexpr int kMemory = 32;
// Estimates are wrong by about so much; a request that is refused costs less
// than one that is computed for nothing.
constexpr double kMargin = 1.25;
// As in runtime/core/fairness.h: what the work of a token is worth.
constexpr int64_t kOutputTokenCost = 2;

Duration SecondsToDuration(double seconds) {
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(seconds));
}

}  // namespace

void WaitEstimate::Mean::Add(double value) {
  count_ = std::min(count_ + 1, kMemory);
  value_ += (value - value_) / count_;
}

double WaitEstimate::ExpectedTokens(const State& state, int64_t max_tokens) {
  const double most = static_cast<double>(max_tokens);
  return state.answer_tokens.known()
             ? std::min(most, state.answer_tokens.value())
             : most;
}

int64_t WaitEstimate::Cost(const State& state, const ExpectedWork& work) {
  const auto answer =
      static_cast<int64_t>(ExpectedTokens(state, work.max_tokens));
  return 1 + work.prompt_tokens + kOutputTokenCost * work.answers * answer;
}

absl::Status WaitEstimate::CheckLocked(const State& state,
                                       const ExpectedWork& work,
                                       int64_t cost) const {
  if (state.waiting.empty() || !state.start_seconds.known()) {
    return absl::OkStatus();
  }
  int64_t ahead = cost;
  for (const auto& [priority, waiting] : state.waiting) {
    if (priority >= work.priority) ahead += waiting;
  }
  const MonotonicTime now = clock_->Now();
  // Where nobody had a turn for long, the mean is of better times.
  const double wait =
      std::max(static_cast<double>(ahead) * state.start_seconds.value() /
                   state.start_cost.value(),
               ToSeconds(now - state.last_start));
  const double answer =
      ExpectedTokens(state, work.max_tokens) * state.token_seconds.value();
  const double left = ToSeconds(work.deadline - now);
  const double late = kMargin * (wait + answer) - left;
  if (late <= 0) return absl::OkStatus();
  return WithRetryDelay(
      ReasonedError(absl::StatusCode::kUnavailable,
                    reason::kDeadlineUnreachable,
                    "too many requests are waiting to answer this one before "
                    "its deadline"),
      std::max(limits::kRetryDelay, SecondsToDuration(late)));
}

absl::Status WaitEstimate::Check(const std::string& tenant, int32_t priority,
                                 MonotonicTime deadline) {
  MutexLock lock(&mutex_);
  const auto found = states_.find(tenant);
  if (found == states_.end()) return absl::OkStatus();
  return CheckLocked(found->second,
                     {.priority = priority, .deadline = deadline}, 0);
}

absl::StatusOr<WaitEstimate::Ticket> WaitEstimate::Enter(
    const std::string& tenant, const ExpectedWork& work) {
  MutexLock lock(&mutex_);
  State& state = states_[tenant];
  const int64_t cost = Cost(state, work);
  absl::Status status = CheckLocked(state, work, cost);
  if (!status.ok()) return status;
  if (state.waiting.empty()) state.last_start = clock_->Now();
  state.waiting[work.priority] += cost;
  Ticket ticket;
  ticket.estimate_ = this;
  ticket.tenant_ = tenant;
  ticket.priority_ = work.priority;
  ticket.answers_ = work.answers;
  ticket.cost_ = cost;
  return ticket;
}

void WaitEstimate::RemoveLocked(State* state, const Ticket& ticket) {
  const auto found = state->waiting.find(ticket.priority_);
  found->second -= ticket.cost_;
  if (found->second == 0) state->waiting.erase(found);
}

WaitEstimate::Ticket& WaitEstimate::Ticket::operator=(Ticket&& other) noexcept {
  Leave();
  estimate_ = std::exchange(other.estimate_, nullptr);
  tenant_ = std::move(other.tenant_);
  priority_ = other.priority_;
  answers_ = other.answers_;
  cost_ = std::exchange(other.cost_, 0);
  started_ = other.started_;
  return *this;
}

void WaitEstimate::Ticket::Started() {
  if (estimate_ == nullptr || cost_ == 0) return;
  MutexLock lock(&estimate_->mutex_);
  State& state = estimate_->states_[tenant_];
  const MonotonicTime now = estimate_->clock_->Now();
  state.start_seconds.Add(ToSeconds(now - state.last_start));
  state.start_cost.Add(static_cast<double>(cost_));
  state.last_start = now;
  estimate_->RemoveLocked(&state, *this);
  cost_ = 0;
  started_ = now;
}

void WaitEstimate::Ticket::Finished(int64_t generated_tokens, bool complete) {
  if (estimate_ == nullptr || cost_ > 0) return;
  MutexLock lock(&estimate_->mutex_);
  State& state = estimate_->states_[tenant_];
  const double tokens = static_cast<double>(generated_tokens) / answers_;
  // Of one that was cut short nothing is known but that it had as many.
  if (complete ||
      (state.answer_tokens.known() && tokens > state.answer_tokens.value())) {
    state.answer_tokens.Add(tokens);
  }
  if (tokens > 1) {
    state.token_seconds.Add(ToSeconds(estimate_->clock_->Now() - started_) /
                            (tokens - 1));
  }
}

void WaitEstimate::Ticket::Leave() {
  if (estimate_ == nullptr) return;
  if (cost_ > 0) {
    MutexLock lock(&estimate_->mutex_);
    estimate_->RemoveLocked(&estimate_->states_[tenant_], *this);
    cost_ = 0;
  }
  estimate_ = nullptr;
}

}  // namespace descant
