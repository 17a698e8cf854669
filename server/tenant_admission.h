// What tenants have under way, held against their limits before any work.
#ifndef DESCANT_SERVER_TENANT_ADMISSION_H_
#define DESCANT_SERVER_TENANT_ADMISSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "server/tenant.h"

namespace descant {

// A token bucket: refilled at `rate` a second, up to a second's worth, or one.
// May be drawn below zero: what was used beyond it is waited for.
class TokenBucket {
 public:
  // Brings the level up to date.
  void Refill(double rate, MonotonicTime now);
  void Draw(double tokens) { level_ -= tokens; }
  double level() const { return level_; }

 private:
  double level_ = 0;
  double rate_ = 0;  // 0: never filled
  MonotonicTime at_;
};

// Thread-safe. Limits are those of the Tenant that comes with a request: after
// the tenants file is read again the new ones count for new requests.
class TenantAdmission {
 public:
  // `clock` outlives this.
  explicit TenantAdmission(const Clock* clock) : clock_(clock) {}

  // A request's part of what its tenant may have, until it is destroyed.
  // Outlived by the TenantAdmission. Not thread-safe.
  class Ticket {
   public:
    Ticket() = default;  // of nothing
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Release(); }

    // Takes room for `sequences` answers and a prompt of `prompt_tokens`. Once.
    // RESOURCE_EXHAUSTED TENANT_SEQUENCE_LIMIT, TENANT_QUEUE_LIMIT,
    // TENANT_TOKEN_LIMIT.
    absl::Status Reserve(int32_t sequences, int64_t prompt_tokens);
    // The first token came: the prompt waits no longer, and is paid for.
    void Started();
    // Tokens were generated.
    void Charge(int64_t tokens);

   private:
    friend class TenantAdmission;
    void Release();

    TenantAdmission* admission_ = nullptr;  // null: of nothing
    std::shared_ptr<const Tenant> tenant_;
    int32_t sequences_ = 0;
    int64_t queued_tokens_ = 0;
  };

  // One of the requests that the tenant may make in this second.
  // RESOURCE_EXHAUSTED TENANT_REQUEST_LIMIT, with the time to wait.
  absl::StatusOr<Ticket> Admit(std::shared_ptr<const Tenant> tenant);

 private:
  struct State {
    int32_t sequences = 0;
    int64_t queued_tokens = 0;
    TokenBucket requests;
    TokenBucket tokens;
  };

  const Clock* const clock_;
  Mutex mutex_;
  // Of tenants with limits: as many as the operator has named.
  absl::flat_hash_map<std::string, State> states_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_TENANT_ADMISSION_H_
