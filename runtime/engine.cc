#include "runtime/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/mutex.h"
#include "runtime/base/reason.h"
#include "runtime/engine_activity.h"
#include "runtime/engine_loop.h"
#include "runtime/guarded_sink.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

// How soon a reader that caught up is noticed where nobody calls Wake().
constexpr std::chrono::milliseconds kPausedPoll{5};

absl::Status Draining() {
  return ReasonedError(absl::StatusCode::kUnavailable, "DRAINING",
                       "the server is shutting down");
}

// The inbox and the thread around an EngineLoop.
class ThreadedEngine final : public Engine {
 public:
  ThreadedEngine(std::unique_ptr<Runner> runner,
                 std::shared_ptr<const Tokenizer> tokenizer,
                 SchedulerOptions scheduler, const EngineOptions& options,
                 const Clock* clock)
      : max_waiting_requests_(options.max_waiting_requests),
        max_waiting_tokens_(options.max_waiting_tokens),
        clock_(clock),
        runner_(std::move(runner)),
        tokenizer_(std::move(tokenizer)),
        loop_(runner_.get(), tokenizer_.get(), std::move(scheduler), options,
              clock, [this] { Wake(); }) {
    loop_.UpdateStats(&stats_);
    thread_ = std::thread([this] { Run(); });
  }
  ~ThreadedEngine() override {
    if (thread_.joinable()) Stop(clock_->Now());
  }

  absl::Status Submit(Request request,
                      std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestId id) override;
  void Wake() override;
  void Manage(AdapterAction action, std::shared_ptr<const Adapter> adapter,
              std::function<void(const AdapterActionResult&)> done) override;
  AdapterLevel LevelOf(absl::string_view tenant, absl::string_view digest,
                       bool* pinned) const override {
    return loop_.residency().LevelOf({tenant, digest}, pinned);
  }
  std::vector<ResidentAdapter> ResidentAdapters() const override {
    return loop_.residency().List();
  }
  EngineStats Stats() const override;
  void Inspect(std::function<void(const EngineActivity&)> done) override;
  void SetMergeMode(
      MergeMode mode, std::shared_ptr<const Adapter> adapter,
      std::function<void(const AdapterActionResult&)> done) override;
  void InspectMerges(std::function<void(const MergeReport&)> done) override;
  MonotonicTime LastProgress() const override;
  int32_t FailInFlight(const absl::Status& status) override;
  void Stop(MonotonicTime deadline) override;

 private:
  struct Submission {
    Request request;
    std::shared_ptr<TokenSink> sink;
  };
  struct Order {
    AdapterAction action;
    std::shared_ptr<const Adapter> adapter;
    AdapterActions::Done done;
  };

  // Something to do between two steps; without a loop when it has ended.
  using Call = std::function<void(EngineLoop*)>;

  void Run();
  // Calls it on the engine thread; without a loop, here, after Stop.
  void Post(Call call);
  // Waits for something to do and takes it. False: the thread is done.
  bool TakeWork(bool progressed);
  bool Woken() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return wake_ || draining_ || !inbox_.empty() || !cancelled_.empty() ||
           !orders_.empty() || !calls_.empty();
  }
  void Publish();
  void Watch(const std::shared_ptr<GuardedSink>& sink)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int32_t max_waiting_requests_;
  const int64_t max_waiting_tokens_;
  const Clock* const clock_;
  const std::unique_ptr<Runner> runner_;
  const std::shared_ptr<const Tokenizer> tokenizer_;

  // Of the engine thread, once it runs.
  EngineLoop loop_;
  std::vector<Submission> taken_;
  std::vector<RequestId> taken_cancelled_;
  std::vector<Order> taken_orders_;
  std::vector<Call> taken_calls_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Submission> inbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestId> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::vector<Order> orders_ ABSL_GUARDED_BY(mutex_);
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  // Of the inbox and of the scheduler's queue together; a request counts as
  // many times as it wants answers.
  int32_t waiting_requests_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t inbox_requests_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t inbox_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  // Sinks of accepted requests, and some that are gone.
  std::vector<std::weak_ptr<GuardedSink>> sinks_ ABSL_GUARDED_BY(mutex_);
  size_t prune_sinks_at_ ABSL_GUARDED_BY(mutex_) = 64;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  bool wake_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime stop_deadline_ ABSL_GUARDED_BY(mutex_) = kNoDeadline;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);

  std::atomic<bool> busy_{false};
  std::atomic<MonotonicTime::rep> last_progress_{0};

  std::thread thread_;
};

absl::Status ThreadedEngine::Submit(Request request,
                                    std::shared_ptr<TokenSink> sink) {
  absl::Status valid = loop_.Validate(request);
  if (!valid.ok()) return valid;
  if (request.deadline <= clock_->Now()) {
    return ReasonedError(absl::StatusCode::kDeadlineExceeded,
                         "DEADLINE_EXCEEDED",
                         "the request's deadline has passed");
  }
  const int64_t tokens = static_cast<int64_t>(request.prompt.size());
  const int32_t sequences = request.sampling.n;
  MutexLock lock(&mutex_);
  if (draining_) {
    return Draining();
  }
  if (stalled_) {
    return ReasonedError(absl::StatusCode::kUnavailable, "ENGINE_STALLED",
                         "the model makes no progress");
  }
  if (waiting_requests_ > 0 &&
      (waiting_requests_ + sequences > max_waiting_requests_ ||
       waiting_tokens_ + tokens > max_waiting_tokens_)) {
    return ReasonedError(absl::StatusCode::kUnavailable, "QUEUE_FULL",
                         "too many requests are waiting");
  }
  auto guarded = std::make_shared<GuardedSink>(request.id, std::move(sink));
  Watch(guarded);
  inbox_.push_back({std::move(request), std::move(guarded)});
  inbox_tokens_ += tokens;
  inbox_requests_ += sequences;
  waiting_requests_ += sequences;
  waiting_tokens_ += tokens;
  changed_.Signal();
  return absl::OkStatus();
}

void ThreadedEngine::Watch(const std::shared_ptr<GuardedSink>& sink) {
  if (sinks_.size() >= prune_sinks_at_) {
    std::erase_if(sinks_, [](const auto& known) { return known.expired(); });
    prune_sinks_at_ = std::max<size_t>(64, 2 * sinks_.size());
  }
  sinks_.push_back(sink);
}

int32_t ThreadedEngine::FailInFlight(const absl::Status& status) {
  std::vector<std::shared_ptr<GuardedSink>> sinks;
  {
    MutexLock lock(&mutex_);
    stalled_ = true;
    for (const auto& known : sinks_) {
      if (auto sink = known.lock()) sinks.push_back(std::move(sink));
    }
  }
  int32_t failed = 0;
  for (const auto& sink : sinks) {
    if (!sink->Fail(status)) continue;
    ++failed;
    Cancel(sink->id());
  }
  Wake();  // a thread that went on meanwhile says so
  return failed;
}

void ThreadedEngine::Cancel(RequestId id) {
  MutexLock lock(&mutex_);
  cancelled_.push_back(id);
  changed_.Signal();
}

void ThreadedEngine::Manage(
    AdapterAction action, std::shared_ptr<const Adapter> adapter,
    std::function<void(const AdapterActionResult&)> done) {
  {
    MutexLock lock(&mutex_);
    if (!draining_) {
      orders_.push_back({action, std::move(adapter), std::move(done)});
      changed_.Signal();
      return;
    }
  }
  done({Draining()});
}

void ThreadedEngine::Post(Call call) {
  {
    MutexLock lock(&mutex_);
    if (!draining_) {
      calls_.push_back(std::move(call));
      changed_.Signal();
      return;
    }
  }
  call(nullptr);
}

void ThreadedEngine::Inspect(std::function<void(const EngineActivity&)> done) {
  Post([done = std::move(done)](EngineLoop* loop) {
    done(loop == nullptr ? EngineActivity() : ActivityOf(loop->scheduler()));
  });
}

void ThreadedEngine::SetMergeMode(
    MergeMode mode, std::shared_ptr<const Adapter> adapter,
    std::function<void(const AdapterActionResult&)> done) {
  Post([mode, adapter = std::move(adapter),
        done = std::move(done)](EngineLoop* loop) {
    done({loop == nullptr ? Draining() : loop->SetMergeMode(mode, adapter)});
  });
}

void ThreadedEngine::InspectMerges(
    std::function<void(const MergeReport&)> done) {
  Post([done = std::move(done)](EngineLoop* loop) {
    done(loop == nullptr ? MergeReport() : loop->Merges());
  });
}

void ThreadedEngine::Wake() {
  MutexLock lock(&mutex_);
  wake_ = true;
  changed_.Signal();
}

EngineStats ThreadedEngine::Stats() const {
  MutexLock lock(&mutex_);
  EngineStats stats = stats_;
  stats.waiting += inbox_requests_;
  return stats;
}

MonotonicTime ThreadedEngine::LastProgress() const {
  if (!busy_.load(std::memory_order_acquire)) return clock_->Now();
  return MonotonicTime(
      MonotonicTime::duration(last_progress_.load(std::memory_order_relaxed)));
}

void ThreadedEngine::Stop(MonotonicTime deadline) {
  {
    MutexLock lock(&mutex_);
    draining_ = true;
    stop_deadline_ = deadline;
    changed_.Signal();
  }
  thread_.join();
}

bool ThreadedEngine::TakeWork(bool progressed) {
  MutexLock lock(&mutex_);
  if (loop_.idle()) {
    busy_.store(false, std::memory_order_release);
    while (!Woken()) changed_.Wait(&mutex_);
  } else if (!progressed && (!Woken() || draining_)) {
    // All are paused: until a reader calls, a request comes, or a while.
    changed_.WaitUntil(&mutex_, std::chrono::steady_clock::now() + kPausedPoll);
  }
  wake_ = false;
  taken_.swap(inbox_);
  inbox_tokens_ = 0;
  inbox_requests_ = 0;
  taken_cancelled_.swap(cancelled_);
  taken_orders_.swap(orders_);
  taken_calls_.swap(calls_);
  if (!draining_) return true;
  if (taken_.empty() && loop_.idle()) return false;
  return clock_->Now() < stop_deadline_;
}

void ThreadedEngine::Run() {
  bool progressed = true;
  bool more = true;
  while (more) {
    more = TakeWork(progressed);
    if (!busy_.load(std::memory_order_relaxed)) {
      last_progress_.store(clock_->Now().time_since_epoch().count(),
                           std::memory_order_relaxed);
      busy_.store(true, std::memory_order_release);
    }
    for (Submission& submission : taken_) {
      loop_.Add(std::move(submission.request), std::move(submission.sink));
    }
    taken_.clear();
    for (const RequestId id : taken_cancelled_) loop_.Cancel(id);
    taken_cancelled_.clear();
    for (Order& order : taken_orders_) {
      loop_.Manage(order.action, std::move(order.adapter),
                   std::move(order.done));
    }
    taken_orders_.clear();
    if (more) {
      progressed = loop_.Step();
    } else {
      loop_.FailAll(Draining());
    }
    Publish();
    for (const Call& call : taken_calls_) call(&loop_);
    taken_calls_.clear();
  }
  loop_.StopLoads(Draining());
  busy_.store(false, std::memory_order_release);
}

void ThreadedEngine::Publish() {
  last_progress_.store(clock_->Now().time_since_epoch().count(),
                       std::memory_order_relaxed);
  MutexLock lock(&mutex_);
  stalled_ = false;
  loop_.UpdateStats(&stats_);
  waiting_requests_ = inbox_requests_ + loop_.waiting();
  waiting_tokens_ = inbox_tokens_ + loop_.waiting_tokens();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::unique_ptr<Runner> runner, std::shared_ptr<const Tokenizer> tokenizer,
    std::vector<int32_t> eos_token_ids, const EngineOptions& options,
    const Clock* clock) {
  SchedulerOptions scheduler;
  scheduler.prefix_cache = options.prefix_cache;
  scheduler.target_step_seconds = ToSeconds(options.target_itl);
  scheduler.max_draft_tokens = options.max_draft_tokens;
  scheduler.limits = runner->limits();
  scheduler.num_blocks = runner->num_blocks();
  scheduler.max_model_len = options.max_model_len;
  scheduler.max_running_sequences = options.max_running_sequences;
  scheduler.max_adapters = options.max_adapters_per_step;
  scheduler.eos_token_ids = std::move(eos_token_ids);
  const BatchLimits& limits = scheduler.limits;
  if (scheduler.num_blocks < 1 || limits.max_blocks_per_sequence < 1 ||
      limits.max_rows < 1 || limits.max_sequences < 1 ||
      limits.max_outputs < 1 || limits.max_slots < 0 ||
      options.max_running_sequences < 1 || options.max_model_len < 2 ||
      options.max_waiting_requests < 1 || options.max_waiting_tokens < 1 ||
      options.max_adapters_per_step < 0 || options.max_draft_tokens < 0 ||
      options.max_draft_tokens > kMaxDraftTokens) {
    return absl::InvalidArgumentError(
        "the engine's limits leave room for no sequence");
  }
  return std::unique_ptr<Engine>(
      new ThreadedEngine(std::move(runner), std::move(tokenizer),
                         std::move(scheduler), options, clock));
}

}  // namespace descant
