// Owns scheduler, runner and the one engine thread. Requests in, tokens out.
#ifndef DESCANT_RUNTIME_ENGINE_H_
#define DESCANT_RUNTIME_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/base/clock.h"
#include "runtime/core/batch.h"
#include "runtime/core/merge_policy.h"
#include "runtime/core/request.h"
#include "runtime/model/runner.h"

namespace descant {

class Tokenizer;

// Where an adapter is: the nearest place that has it.
enum class AdapterLevel { kDisk, kHost, kDevice };

// A (tenant, digest) that is in memory, or was.
struct ResidentAdapter {
  std::string tenant;  // "" where tenants are off
  std::string name;    // that it was loaded under
  std::string digest;
  AdapterLevel level = AdapterLevel::kDisk;
  bool pinned = false;
  int32_t rank = 0;    // the largest of its modules
  uint64_t bytes = 0;  // at that level; 0 on disk
};

// How an adapter's merged weights are doing.
struct MergeStatus {
  std::string tenant;  // "" where tenants are off
  std::string name;    // that its last request had
  MergeRecord record;
  LogprobDifference check;  // merged beside unmerged; no outputs: not yet
};

// Something that happened to an adapter's merged weights.
struct MergeEvent {
  double unix_seconds = 0;
  std::string tenant;
  std::string name;
  std::string digest;
  MergeState state = MergeState::kUnmerged;  // from then on
  std::string reason;
};

struct MergeReport {
  bool enabled = false;
  std::string unavailable;  // not empty: why this server can't merge
  uint64_t memory_used = 0;
  uint64_t memory_capacity = 0;
  std::vector<MergeStatus> adapters;  // by tenant and name
  std::vector<MergeEvent> history;    // the last ones, oldest first
};

// What hot merge did since the start.
struct MergeStats {
  struct Adapter {
    std::string label;  // "tenant/name" or "name"
    std::string digest;
    std::optional<double> gain;  // as MergeRecord's
    uint64_t merged_steps = 0;
  };
  std::vector<Adapter> merged;  // that have merged weights
  uint64_t merged_steps = 0;
  uint64_t switches = 0;  // a step merged, the one before not, or the reverse
  uint64_t builds = 0;    // that ended well
  uint64_t failed_builds = 0;
  uint64_t refused = 0;        // merged weights that gave other tokens
  double build_seconds = 0;    // summed work of one core
  double measure_seconds = 0;  // of steps computed twice
  double saved_seconds = 0;    // estimated, of steps that merging sped up
  uint64_t memory_used = 0;
  uint64_t memory_capacity = 0;
};

struct EngineOptions {
  int32_t max_model_len = 0;
  int32_t max_waiting_requests = 1024;   // answers that wait: the inbox's cap
  int64_t max_waiting_tokens = 1 << 20;  // prompt tokens waiting
  int32_t max_running_sequences = 64;
  int32_t max_adapters_per_step = 0;  // 0: as many as there are slots
  bool prefix_cache = true;
  // How long a step with decodes may take for the sake of prefills; 0: any
  // time. See SchedulerOptions::target_step_seconds.
  Duration target_itl{};
  // Tokens guessed ahead for a sequence in a step, in [0, kMaxDraftTokens].
  int32_t max_draft_tokens = 0;
  // Of adapters in host memory, ready for the device. 0: there is no host
  // tier; what is read from disk is used once.
  uint64_t host_adapter_bytes = uint64_t{1} << 30;
  // Merges adapters that have steps for themselves, where that pays.
  bool hot_merge = false;
  // Of merged weights together; 0: twice what those of one adapter on all
  // modules take.
  uint64_t merge_memory = 0;
  // Level or pin of an adapter changed: called on the engine thread, in order,
  // quick. May call the engine.
  std::function<void(const ResidentAdapter&)> on_residency;
  // An adapter came to that level, and how long it took from being wanted
  // there. On the engine thread.
  std::function<void(AdapterLevel, Duration)> on_adapter_load;
};

enum class AdapterAction {
  kLoadHost,    // into host memory only
  kLoadDevice,  // into a slot, where it stays until somebody needs that
  kUnload,      // out of slot and host memory; ends a pin
  kPin,         // into a slot, where it stays until kUnpin or kUnload
  kUnpin,
};

struct AdapterActionResult {
  absl::Status status;
  uint64_t freed_device_bytes = 0;  // kUnload
  uint64_t freed_host_bytes = 0;
};

// One sampled token. The one that ended the answer (end of sequence, a stop
// token) is reported as well; it adds no text.
struct TokenEvent {
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;
};

struct RequestTimings {
  Duration queue{};    // arrival -> first scheduled
  Duration prefill{};  // first scheduled -> first token
  Duration decode{};   // first token -> last token
};

// How one answer ended.
struct ChoiceResult {
  FinishReason reason = FinishReason::kNone;
  std::string stop;  // the stop string, where that ended it
  int32_t stop_token = -1;
  int32_t generated_tokens = 0;
};

struct RequestResult {
  // Of the first answer; where the request failed, why.
  FinishReason reason = FinishReason::kNone;
  absl::Status status;  // not OK for kError, kDeadline, kCancelled
  std::string stop;
  int32_t stop_token = -1;
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;       // of all answers
  int32_t cached_tokens = 0;          // of the prompt's, not computed again
  int32_t draft_tokens = 0;           // guessed ahead, of all answers
  int32_t accepted_draft_tokens = 0;  // of them, tokens of the answers
  RequestTimings timings;
};

// Receives one request's output, on the engine thread (OnFinish after
// FailInFlight: on that caller's, never two at a time), in order: for each
// choice (answer, from 0) any number of OnTokens and, where it did not fail,
// OnChoiceFinish; the choices mixed; then OnFinish exactly once. An answer
// that fails fails the request. Must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // `text` is the part of the answer that is now final: whole characters, stop
  // strings held back.
  virtual void OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                        const std::string& text) = 0;
  virtual void OnChoiceFinish(int32_t choice, const ChoiceResult& result) {}
  // Once, before the first OnTokens: the prompt is computed, but for
  // `cached_tokens` of it that were already.
  virtual void OnStart(int32_t prompt_tokens, int32_t cached_tokens) {}
  // With SamplingParams::prompt_logprobs: the prompt's tokens from the second
  // one on, each once, in order, before the first OnTokens.
  virtual void OnPrompt(absl::Span<const TokenEvent> tokens) {}
  virtual void OnFinish(const RequestResult& result) = 0;
  // Polled before each step: a sequence whose reader fell behind is paused.
  virtual bool WantsMore() const { return true; }
};

// A snapshot, refreshed by the engine thread after each step. Counters only
// grow.
struct EngineStats {
  int32_t running = 0;
  int32_t waiting = 0;
  int32_t blocks_total = 0;
  int32_t blocks_used = 0;    // by sequences
  int32_t blocks_cached = 0;  // by nobody, with prompts that may come again
  int32_t slots_total = 0;
  int32_t slots_used = 0;
  uint64_t steps = 0;
  uint64_t steps_ahead = 0;  // scheduled while the one before was in flight
  StepKinds step_kinds;      // of runners that have several
  uint64_t rows = 0;
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;  // of the prompts', not computed again
  uint64_t generated_tokens = 0;
  uint64_t drafts = 0;  // of a sequence in a step
  uint64_t draft_tokens = 0;
  uint64_t accepted_draft_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t adapter_loads = 0;
  uint64_t adapter_evictions = 0;
  // Not empty: the device failed for good, with its words.
  std::string device_failure;
  uint64_t numeric_faults = 0;
  uint64_t failed_sequences = 0;  // that a step could not be computed with
  double step_seconds = 0;        // summed
  double longest_step_seconds = 0;
  // Of the steps whose time was predicted (core/step_time_model.h): summed
  // predictions, and summed absolute errors.
  double predicted_step_seconds = 0;
  double step_error_seconds = 0;
  // The tiers of adapters.
  int64_t host_adapters = 0;
  uint64_t host_bytes = 0;
  uint64_t host_capacity = 0;
  uint64_t device_bytes = 0;
  uint64_t device_capacity = 0;
  // A load into a slot found the image in host memory (it may have been
  // fetched ahead for the same request), or needed the disk.
  uint64_t host_hits = 0;
  uint64_t host_misses = 0;
  uint64_t host_evictions = 0;
  // A sequence found its adapter in a slot, or had to wait for it.
  uint64_t device_hits = 0;
  uint64_t device_misses = 0;
  int32_t pinned_adapters = 0;
  MergeStats merges;
  // "tenant/name" or "name" of adapters resident in a slot, and of those with
  // waiting requests.
  std::vector<std::string> running_adapters;
  std::vector<std::string> waiting_adapters;
};

// What a tenant has at the moment.
struct TenantActivity {
  std::string tenant;   // "" where tenants are off
  int32_t running = 0;  // sequences
  int32_t waiting = 0;  // answers that wait to run, preempted ones included
  int32_t blocks_used = 0;
  int32_t blocks_cached = 0;
  int32_t slots_used = 0;  // that hold an adapter of its own
};

// An adapter version that requests name.
struct AdapterActivity {
  std::string tenant;  // whose adapter it is
  std::string name;
  std::string digest;
  int32_t running = 0;
  int32_t waiting = 0;
};

// Who does what at the moment.
struct EngineActivity {
  std::vector<TenantActivity> tenants;    // by tenant; those that have anything
  std::vector<AdapterActivity> adapters;  // the busiest first
};

// Thread-safe. Stop() is called once, before destruction.
class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::unique_ptr<Runner> runner,
      std::shared_ptr<const Tokenizer> tokenizer,
      std::vector<int32_t> eos_token_ids, const EngineOptions& options,
      const Clock* clock);
  virtual ~Engine() = default;

  // Queues the request, or answers at once: UNAVAILABLE reason QUEUE_FULL,
  // ENGINE_STALLED or DRAINING, DEADLINE_EXCEEDED, INVALID_ARGUMENT when it can
  // never fit. `sink` lives until its OnFinish returned; it gets nothing when
  // Submit fails.
  virtual absl::Status Submit(Request request,
                              std::shared_ptr<TokenSink> sink) = 0;

  // Frees everything the request holds within one step; its sink gets
  // OnFinish(kCancelled) unless it has finished. Unknown ids are ignored.
  virtual void Cancel(RequestId id) = 0;

  // A paused sink wants more again: continues it at once. (Without the call the
  // engine notices within milliseconds.)
  virtual void Wake() {}

  // Does `action` with the adapter, and calls `done` once, on the engine
  // thread, when it is complete: kUnload when all is free (what runs on the
  // adapter finishes first, what comes meanwhile waits and loads it anew), kPin
  // and the loads when it is there. Actions on the same adapter may overlap;
  // kUnload and kUnpin end those before them (ABORTED, ADAPTER_ACTION_ENDED).
  // Other errors: those of the load; RESOURCE_EXHAUSTED ADAPTER_PINS_FULL: one
  // slot must stay for others; RESOURCE_EXHAUSTED HOST_TIER_FULL;
  // FAILED_PRECONDITION ADAPTERS_OFF or HOST_TIER_OFF; UNAVAILABLE DRAINING:
  // the engine stopped first. After Stop was called `done` is called at once,
  // on the caller's thread.
  virtual void Manage(AdapterAction action,
                      std::shared_ptr<const Adapter> adapter,
                      std::function<void(const AdapterActionResult&)> done) = 0;

  // Of one adapter; `pinned` may be null. Cheap.
  virtual AdapterLevel LevelOf(absl::string_view tenant,
                               absl::string_view digest,
                               bool* pinned) const = 0;
  // All that are in memory, by tenant, name and digest.
  virtual std::vector<ResidentAdapter> ResidentAdapters() const = 0;

  // Sets what hot merge may do with the adapter from now on, and calls `done`
  // once, on the engine thread; after Stop was called on the caller's, with
  // UNAVAILABLE DRAINING. FAILED_PRECONDITION HOT_MERGE_OFF or
  // MERGE_UNSUPPORTED (why this server can't merge), unless it is kAuto;
  // RESOURCE_EXHAUSTED MERGE_MEMORY_FULL: a pin that does not fit beside the
  // others. Wishes end with the server.
  virtual void SetMergeMode(
      MergeMode mode, std::shared_ptr<const Adapter> adapter,
      std::function<void(const AdapterActionResult&)> done) = 0;
  // What is merged, and why; as Inspect.
  virtual void InspectMerges(std::function<void(const MergeReport&)> done) = 0;

  virtual EngineStats Stats() const = 0;
  // Calls `done` once, with what there is after the step at hand: on the engine
  // thread, between two steps; with nothing, on the caller's thread, after Stop
  // was called. Costs steps O(sequences + blocks): for people who look, not for
  // scrapes.
  virtual void Inspect(std::function<void(const EngineActivity&)> done) = 0;
  // Time of the last completed step, or now when idle: for the watchdog.
  virtual MonotonicTime LastProgress() const = 0;
  // For an engine thread that hangs: every request that was accepted ends now
  // with `status`, on the caller's thread; Submit answers UNAVAILABLE, reason
  // ENGINE_STALLED, until there is progress. Should the thread go on, it frees
  // what they held. How many requests it ended.
  virtual int32_t FailInFlight(const absl::Status& status) = 0;

  // No new requests; those accepted run until `deadline`, then are failed
  // with UNAVAILABLE. Joins the engine thread.
  virtual void Stop(MonotonicTime deadline) = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ENGINE_H_
