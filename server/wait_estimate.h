// Whether a request can still be answered in time, from how fast others of its
// tenant got their turn.
//
// Without it a queue under overload grows until it is as long as callers wait;
// from then on each one that gets its turn has no time left, and a server at
// full speed answers nobody. So what would only wait until nobody wants its
// answer is refused at once.
#ifndef DESCANT_SERVER_WAIT_ESTIMATE_H_
#define DESCANT_SERVER_WAIT_ESTIMATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"

namespace descant {

// What a request is, as far as its time is concerned.
struct ExpectedWork {
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;  // of each answer
  int32_t answers = 1;
  int32_t priority = 0;  // higher goes first, within the tenant
  MonotonicTime deadline = kNoDeadline;
};

// Refuses nobody while none of the tenant's requests waits: then there is no
// queue, and what is known may be old. Thread-safe.
class WaitEstimate {
 public:
  // `clock` outlives this.
  explicit WaitEstimate(const Clock* clock) : clock_(clock) {}

  // A request from its queueing to its end, or to that of the ticket. Outlived
  // by the WaitEstimate. Not thread-safe.
  class Ticket {
   public:
    Ticket() = default;  // of nothing
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Leave(); }

    // Its first token came.
    void Started();
    // It ended with so many tokens, of all answers; `complete`: not for want of
    // time.
    void Finished(int64_t generated_tokens, bool complete);

   private:
    friend class WaitEstimate;
    void Leave();

    WaitEstimate* estimate_ = nullptr;  // null: of nothing
    std::string tenant_;
    int32_t priority_ = 0;
    int32_t answers_ = 1;
    int64_t cost_ = 0;  // 0: waits no longer
    MonotonicTime started_;
  };

  // Before anything is spent on a request: whether even an empty one would be
  // too late. UNAVAILABLE DEADLINE_UNREACHABLE, with the time to wait.
  absl::Status Check(const std::string& tenant, int32_t priority,
                     MonotonicTime deadline);
  // Queues it, or refuses it in the same way.
  absl::StatusOr<Ticket> Enter(const std::string& tenant,
                               const ExpectedWork& work);

 private:
  // The mean of values, the late ones more than the early ones.
  class Mean {
   public:
    void Add(double value);
    double value() const { return value_; }
    bool known() const { return count_ > 0; }

   private:
    double value_ = 0;
    int count_ = 0;
  };

  struct State {
    // Of those that wait, by priority, highest first.
    std::map<int32_t, int64_t, std::greater<>> waiting;
    MonotonicTime last_start;  // or when the first of those that wait came
    Mean start_seconds;        // from one's start to the next one's
    Mean start_cost;
    Mean answer_tokens;
    Mean token_seconds;  // between tokens of an answer
  };

  static int64_t Cost(const State& state, const ExpectedWork& work);
  static double ExpectedTokens(const State& state, int64_t max_tokens);
  absl::Status CheckLocked(const State& state, const ExpectedWork& work,
                           int64_t cost) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveLocked(State* state, const Ticket& ticket)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock* const clock_;
  Mutex mutex_;
  // As many as the operator has named.
  absl::flat_hash_map<std::string, State> states_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_WAIT_ESTIMATE_H_
