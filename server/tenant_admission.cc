#include "server/tenant_admission.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

bool Limited(const TenantLimits& limits) {
  return limits.requests_per_second > 0 || limits.tokens_per_second > 0 ||
         limits.sequences > 0 || limits.queued_tokens > 0;
}

absl::Status Exceeded(absl::string_view reason, absl::string_view what,
                      Duration wait) {
  return WithRetryDelay(
      ReasonedError(absl::StatusCode::kResourceExhausted, reason,
                    absl::StrCat("the tenant may have ", what)),
      wait);
}

// Until a bucket has `missing` more.
Duration TimeFor(double missing, double rate) {
  constexpr double kLongest = 3600;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
      std::min(std::max(missing, 0.0) / rate, kLongest)));
}

}  // namespace

void TokenBucket::Refill(double rate, MonotonicTime now) {
  const double most = std::max(rate, 1.0);
  if (rate_ == 0) {
    level_ = most;
  } else {
    level_ = std::min(most, level_ + rate * ToSeconds(now - at_));
  }
  rate_ = rate;
  at_ = now;
}

absl::StatusOr<TenantAdmission::Ticket> TenantAdmission::Admit(
    std::shared_ptr<const Tenant> tenant) {
  Ticket ticket;
  const TenantLimits& limits = tenant->limits;
  if (!Limited(limits)) return ticket;
  if (limits.requests_per_second > 0) {
    MutexLock lock(&mutex_);
    TokenBucket& bucket = states_[tenant->id].requests;
    bucket.Refill(limits.requests_per_second, clock_->Now());
    if (bucket.level() < 1) {
      return Exceeded(
          reason::kTenantRequestLimit,
          absl::StrCat(limits.requests_per_second, " requests a second"),
          TimeFor(1 - bucket.level(), limits.requests_per_second));
    }
    bucket.Draw(1);
  }
  ticket.admission_ = this;
  ticket.tenant_ = std::move(tenant);
  return ticket;
}

TenantAdmission::Ticket& TenantAdmission::Ticket::operator=(
    Ticket&& other) noexcept {
  Release();
  admission_ = std::exchange(other.admission_, nullptr);
  tenant_ = std::move(other.tenant_);
  sequences_ = std::exchange(other.sequences_, 0);
  queued_tokens_ = std::exchange(other.queued_tokens_, 0);
  return *this;
}

absl::Status TenantAdmission::Ticket::Reserve(int32_t sequences,
                                              int64_t prompt_tokens) {
  if (admission_ == nullptr) return absl::OkStatus();
  DESCANT_CHECK(sequences_ == 0);
  const TenantLimits& limits = tenant_->limits;
  MutexLock lock(&admission_->mutex_);
  State& state = admission_->states_[tenant_->id];
  if (limits.sequences > 0 && state.sequences + sequences > limits.sequences) {
    return Exceeded(reason::kTenantSequenceLimit,
                    absl::StrCat(limits.sequences, " answers at once"),
                    limits::kRetryDelay);
  }
  // One prompt alone is always taken: the model's limit is the limit of it.
  if (limits.queued_tokens > 0 && state.queued_tokens > 0 &&
      state.queued_tokens + prompt_tokens > limits.queued_tokens) {
    return Exceeded(
        reason::kTenantQueueLimit,
        absl::StrCat(limits.queued_tokens, " tokens of prompts waiting"),
        limits::kRetryDelay);
  }
  if (limits.tokens_per_second > 0) {
    state.tokens.Refill(limits.tokens_per_second, admission_->clock_->Now());
    // Those that wait will be paid for.
    const double left =
        state.tokens.level() - static_cast<double>(state.queued_tokens);
    if (left <= 0) {
      return Exceeded(
          reason::kTenantTokenLimit,
          absl::StrCat(limits.tokens_per_second, " tokens a second"),
          TimeFor(1 - left, limits.tokens_per_second));
    }
  }
  state.sequences += sequences;
  state.queued_tokens += prompt_tokens;
  sequences_ = sequences;
  queued_tokens_ = prompt_tokens;
  return absl::OkStatus();
}

void TenantAdmission::Ticket::Started() {
  if (queued_tokens_ == 0) return;
  MutexLock lock(&admission_->mutex_);
  State& state = admission_->states_[tenant_->id];
  state.queued_tokens -= queued_tokens_;
  const int64_t tokens = std::exchange(queued_tokens_, 0);
  if (tenant_->limits.tokens_per_second > 0) {
    state.tokens.Draw(static_cast<double>(tokens));
  }
}

void TenantAdmission::Ticket::Charge(int64_t tokens) {
  if (admission_ == nullptr || tenant_->limits.tokens_per_second == 0) return;
  MutexLock lock(&admission_->mutex_);
  admission_->states_[tenant_->id].tokens.Draw(static_cast<double>(tokens));
}

void TenantAdmission::Ticket::Release() {
  if (admission_ == nullptr) return;
  MutexLock lock(&admission_->mutex_);
  State& state = admission_->states_[tenant_->id];
  state.sequences -= sequences_;
  state.queued_tokens -= queued_tokens_;
  admission_ = nullptr;
}

}  // namespace descant
