#include "runtime/engine_loop.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

std::string LabelOf(const Adapter& adapter) {
  if (adapter.tenant.empty()) return adapter.name;
  return absl::StrCat(adapter.tenant, "/", adapter.name);
}

void SortUnique(std::vector<std::string>* names) {
  std::sort(names->begin(), names->end());
  names->erase(std::unique(names->begin(), names->end()), names->end());
}

// A sequence whose last token is in flight has no drafts. So that they can show
// whether they pay, one step in so many is scheduled when none is in flight.
constexpr int32_t kMostStepsAhead = 15;

bool HasDrafts(const Batch& batch) {
  return std::any_of(batch.sequences.begin(), batch.sequences.end(),
                     [](const BatchSequence& sequence) {
                       return sequence.output_end - sequence.output_begin >
                              sequence.prompt_outputs + 1;
                     });
}

// Why the computation of a request failed.
absl::Status FailureOf(const StepOutput& output, RequestId id) {
  for (const StepOutput::PerSequence& sequence : output.sequences) {
    if (sequence.id == id && sequence.failed) {
      return ReasonedError(absl::StatusCode::kInternal, "STEP_FAILED",
                           "the model could not compute this request");
    }
  }
  return ReasonedError(absl::StatusCode::kInternal, "NUMERIC_FAULT",
                       "the computation of this request gave a value that is "
                       "not finite");
}

}  // namespace

EngineLoop::EngineLoop(Runner* runner, const Tokenizer* tokenizer,
                       SchedulerOptions scheduler, const EngineOptions& options,
                       const Clock* clock, std::function<void()> wake)
    : runner_(runner),
      tokenizer_(tokenizer),
      clock_(clock),
      scheduler_(std::move(scheduler)),
      step_runner_(runner),
      has_drafts_(scheduler_.max_draft_tokens() > 0),
      tiers_(
          runner, &scheduler_, clock, options,
          [this](int32_t slot, const Adapter& adapter,
                 const absl::Status& status) {
            LoadFailed(slot, adapter, status);
          },
          wake),
      actions_(&tiers_, &scheduler_),
      wants_hot_merge_(options.hot_merge) {
  if (!options.hot_merge) return;
  const absl::Status can = runner->can_merge();
  if (can.ok()) {
    hot_merge_ = std::make_unique<HotMerge>(runner, clock, options.merge_memory,
                                            std::move(wake));
  } else {
    LogWarning("hot merge is off: ", can.message());
  }
}

void EngineLoop::Add(Request request, std::shared_ptr<TokenSink> sink) {
  const RequestId id = request.id;
  counts_.prompt_tokens += request.prompt.size();
  const bool inserted =
      answers_
          .emplace(id, std::make_unique<Answer>(request, std::move(sink),
                                                tokenizer_))
          .second;
  DESCANT_CHECK(inserted);
  if (request.adapter != nullptr) tiers_.RequestAdded(request.adapter);
  scheduler_.Add(std::move(request));
  ++adapter_lists_version_;
}

void EngineLoop::Cancel(RequestId id) {
  scheduler_.Abort(id, FinishReason::kCancelled);
  Deliver(nullptr, absl::OkStatus());
}

void EngineLoop::FailAll(const absl::Status& status) {
  std::vector<RequestId> ids;
  for (const auto& [id, answer] : answers_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const RequestId id : ids) scheduler_.Abort(id, FinishReason::kError);
  Deliver(nullptr, status);
}

bool EngineLoop::Step() {
  const bool ahead = step_runner_.in_flight() != nullptr && MayScheduleAhead();
  if (!ahead) {
    if (step_runner_.in_flight() != nullptr) Finish();
    ClearTainted();
  }
  const MonotonicTime begin = clock_->Now();
  const bool scheduled = Schedule(begin);
  const Batch& batch = scheduler_.batch();
  if (ahead) {
    Finish();
    ClearTainted();
    ++steps_ahead_;
    // A step that fails is run again in parts, and finds the same tokens.
    if (scheduled) scheduler_.CompleteBatch();
    counts_.steps_ahead += scheduled ? 1 : 0;
  } else {
    steps_ahead_ = 0;
    drafted_ = scheduled && has_drafts_ && HasDrafts(batch);
  }
  if (!scheduled) return ahead;
  step_began_ = ahead ? clock_->Now() : begin;
  if (hot_merge_ != nullptr) PlanMerge(batch);
  launched_ = clock_->Now();
  step_runner_.Launch(batch);
  if (!runner_->overlaps() ||
      (hot_merge_ != nullptr && hot_merge_->must_collect())) {
    Finish();
  }
  return true;
}

void EngineLoop::PlanMerge(const Batch& batch) {
  const int32_t slot = HotMerge::SlotOf(batch);
  if (slot == kNoSlot) return;
  const MergedWeights* merged =
      hot_merge_->PlanStep(batch, scheduler_.slots().adapter(slot));
  if (merged != nullptr) scheduler_.UseMerged(merged);
  if (hot_merge_->must_collect()) step_began_ = clock_->Now();
}

// Operators' actions on adapters go on between steps.
bool EngineLoop::MayScheduleAhead() const {
  if (actions_.pending()) return false;
  return !has_drafts_ || (!drafted_ && steps_ahead_ < kMostStepsAhead);
}

bool EngineLoop::Schedule(MonotonicTime now) {
  PollSinks();
  tiers_.EndLoads();
  actions_.Advance();
  scheduler_.Schedule(now);
  Deliver(nullptr, absl::OkStatus());
  tiers_.BeginLoads();
  const bool scheduled = !scheduler_.batch().empty();
  tiers_.SetStepsRun(scheduled);
  if (hot_merge_ != nullptr) {
    hot_merge_->SetStepsRun(scheduled);
    hot_merge_->Advance();
  }
  return scheduled;
}

void EngineLoop::ClearTainted() {
  if (scheduler_.tainted_blocks().empty()) return;
  runner_->ClearBlocks(scheduler_.tainted_blocks());
  scheduler_.TaintedBlocksCleared();
}

void EngineLoop::Finish() {
  const Batch& batch = *step_runner_.in_flight();
  const StepOutput& output = step_runner_.Collect();
  const Duration computed = clock_->Now() - launched_;
  scheduler_.Update(output);
  Deliver(&output, absl::OkStatus());
  CountStep(batch, output, computed);
  absl::Status device = runner_->health();
  device.Update(Failpoint("engine.device"));
  if (!device.ok() && counts_.device_failure.empty()) {
    counts_.device_failure = device.ToString();
  }
}

void EngineLoop::CountStep(const Batch& batch, const StepOutput& output,
                           Duration computed) {
  ++counts_.steps;
  counts_.rows += batch.rows();
  for (const StepOutput::PerSequence& sequence : output.sequences) {
    counts_.numeric_faults += sequence.numeric_fault ? 1 : 0;
    counts_.failed_sequences += sequence.failed ? 1 : 0;
  }
  const double seconds = ToSeconds(clock_->Now() - step_began_);
  counts_.step_seconds += seconds;
  if (hot_merge_ != nullptr) {
    hot_merge_->StepEnded(
        batch, step_runner_.failure().ok() ? ToSeconds(computed) : 0);
  }
  // A step in pieces says nothing about others.
  if (!step_runner_.failure().ok()) return;
  counts_.longest_step_seconds =
      std::max(counts_.longest_step_seconds, seconds);
  const double predicted = scheduler_.StepTook(seconds);
  if (predicted == 0) return;
  counts_.predicted_step_seconds += predicted;
  counts_.step_error_seconds += std::abs(seconds - predicted);
}

void EngineLoop::PollSinks() {
  for (const auto& [id, answer] : answers_) {
    const bool paused = !answer->WantsMore();
    if (paused == answer->paused) continue;
    answer->paused = paused;
    scheduler_.SetPaused(id, paused);
  }
}

void EngineLoop::LoadFailed(int32_t slot, const Adapter& adapter,
                            const absl::Status& status) {
  Deliver(nullptr, status);
  actions_.LoadFailed(slot, adapter, status);
}

void EngineLoop::StopLoads(const absl::Status& status) {
  actions_.FailAll(status);
  tiers_.Stop();
  if (hot_merge_ != nullptr) hot_merge_->Stop();
}

absl::Status EngineLoop::SetMergeMode(
    MergeMode mode, const std::shared_ptr<const Adapter>& adapter) {
  if (hot_merge_ != nullptr) return hot_merge_->SetMode(mode, adapter);
  if (mode == MergeMode::kAuto) return absl::OkStatus();
  if (!wants_hot_merge_) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition, "HOT_MERGE_OFF",
                         "the server runs with --hot-merge=off");
  }
  return ReasonedError(absl::StatusCode::kFailedPrecondition,
                       "MERGE_UNSUPPORTED", runner_->can_merge().message());
}

MergeReport EngineLoop::Merges() const {
  if (hot_merge_ != nullptr) return hot_merge_->Report();
  MergeReport report;
  report.enabled = wants_hot_merge_;
  if (wants_hot_merge_) {
    report.unavailable = std::string(runner_->can_merge().message());
  }
  return report;
}

absl::Status EngineLoop::StatusOf(FinishReason reason,
                                  const absl::Status& failure) {
  switch (reason) {
    case FinishReason::kCancelled:
      return absl::CancelledError("cancelled by the client");
    case FinishReason::kDeadline:
      return ReasonedError(absl::StatusCode::kDeadlineExceeded,
                           "DEADLINE_EXCEEDED",
                           "the request's deadline has passed");
    case FinishReason::kError:
      DESCANT_CHECK(!failure.ok());
      return failure;
    default:
      return absl::OkStatus();
  }
}

void EngineLoop::Deliver(const StepOutput* output,
                         const absl::Status& failure) {
  if (scheduler_.events().empty()) return;
  const MonotonicTime now = clock_->Now();
  // A stop string ends its sequence here, which adds an event at the end.
  for (size_t i = 0; i < scheduler_.events().size(); ++i) {
    const SequenceEvent event = scheduler_.events()[i];
    const auto found = answers_.find(event.id);
    DESCANT_CHECK(found != answers_.end());
    Answer& answer = *found->second;
    if (event.begin > event.prompt_begin) {
      answer.AppendPrompt(event, *output);
    }
    if (event.end > event.begin) {
      if (!answer.started()) counts_.cached_tokens += event.cached_tokens;
      const bool stopped =
          answer.Append(event, *output, now, &counts_.generated_tokens);
      if (stopped && event.finish == FinishReason::kNone) {
        scheduler_.AbortChoice(event.id, event.choice,
                               FinishReason::kStopString);
      }
    }
    if (event.finish == FinishReason::kNone) continue;
    std::unique_ptr<Answer> finished;
    if (event.last) {
      finished = std::move(found->second);
      answers_.erase(found);
      if (answer.adapter() != nullptr) tiers_.RequestEnded(*answer.adapter());
    }
    ++adapter_lists_version_;
    const bool computed =
        event.finish == FinishReason::kError && output != nullptr;
    answer.Finish(event,
                  computed ? FailureOf(*output, event.id)
                           : StatusOf(event.finish, failure),
                  now);
  }
  scheduler_.ClearEvents();
}

void EngineLoop::UpdateStats(EngineStats* stats) {
  counts_.running = scheduler_.running();
  counts_.waiting = scheduler_.waiting() + scheduler_.preempted();
  counts_.blocks_total = scheduler_.blocks().total();
  counts_.blocks_used = scheduler_.blocks().used();
  counts_.blocks_cached = scheduler_.blocks().idle();
  counts_.preemptions = scheduler_.preemptions();
  counts_.drafts = scheduler_.speculation().drafts;
  counts_.draft_tokens = scheduler_.speculation().draft_tokens;
  counts_.accepted_draft_tokens =
      scheduler_.speculation().accepted_draft_tokens;
  counts_.step_kinds = runner_->step_kinds();
  counts_.pinned_adapters = actions_.pins();
  tiers_.UpdateStats(&counts_);
  if (hot_merge_ != nullptr) hot_merge_->UpdateStats(&counts_.merges);
  const uint64_t version = adapter_lists_version_ + tiers_.version();
  if (adapter_lists_seen_ != version || last_running_ != counts_.running) {
    adapter_lists_seen_ = version;
    last_running_ = counts_.running;
    counts_.running_adapters.clear();
    counts_.waiting_adapters.clear();
    for (int32_t i = 0; i < scheduler_.slots().num_slots(); ++i) {
      const auto& adapter = scheduler_.slots().adapter(i);
      if (adapter) counts_.running_adapters.push_back(LabelOf(*adapter));
    }
    scheduler_.ForEachSequence([this](const Sequence& sequence) {
      if (sequence.request().adapter == nullptr ||
          (sequence.state != SequenceState::kWaiting &&
           sequence.state != SequenceState::kPreempted)) {
        return;
      }
      counts_.waiting_adapters.push_back(LabelOf(*sequence.request().adapter));
    });
    SortUnique(&counts_.running_adapters);
    SortUnique(&counts_.waiting_adapters);
  }
  *stats = counts_;
}

}  // namespace descant
