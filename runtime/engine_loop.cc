#include "runtime/engine_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
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

}  // namespace

EngineLoop::EngineLoop(Runner* runner, const Tokenizer* tokenizer,
                       SchedulerOptions options, const Clock* clock,
                       std::function<void()> wake)
    : runner_(runner),
      tokenizer_(tokenizer),
      clock_(clock),
      scheduler_(std::move(options)),
      loader_(runner, std::move(wake)) {}

void EngineLoop::Add(Request request, std::shared_ptr<TokenSink> sink) {
  const RequestId id = request.id;
  counts_.prompt_tokens += request.prompt.size();
  const bool inserted =
      answers_
          .emplace(id, std::make_unique<Answer>(request, std::move(sink),
                                                tokenizer_))
          .second;
  DESCANT_CHECK(inserted);
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
  const MonotonicTime begin = clock_->Now();
  PollSinks();
  EndLoads();
  if (!scheduler_.tainted_blocks().empty()) {
    runner_->ClearBlocks(scheduler_.tainted_blocks());
    scheduler_.TaintedBlocksCleared();
  }
  scheduler_.Schedule(begin);
  Deliver(nullptr, absl::OkStatus());
  BeginLoads();
  const Batch& batch = scheduler_.batch();
  if (batch.empty()) return false;

  absl::Status status = runner_->Launch(batch);
  const StepOutput* output = nullptr;
  if (status.ok()) {
    absl::StatusOr<const StepOutput*> collected = runner_->Collect();
    status = collected.status();
    if (collected.ok()) output = *collected;
  }
  ++counts_.steps;
  counts_.rows += batch.rows();
  if (output == nullptr) {
    LogError("step ", batch.step, " failed: ", status.ToString());
    scheduler_.FailStep();
    Deliver(nullptr, ReasonedError(absl::StatusCode::kInternal, "STEP_FAILED",
                                   "the model could not compute this step"));
  } else {
    for (const StepOutput::PerSequence& sequence : output->sequences) {
      counts_.numeric_faults += sequence.numeric_fault ? 1 : 0;
    }
    scheduler_.Update(*output);
    Deliver(output, ReasonedError(absl::StatusCode::kInternal, "NUMERIC_FAULT",
                                  "the computation of this request gave a "
                                  "value that is not finite"));
  }
  counts_.step_seconds += ToSeconds(clock_->Now() - begin);
  return true;
}

void EngineLoop::PollSinks() {
  for (const auto& [id, answer] : answers_) {
    const bool paused = !answer->WantsMore();
    if (paused == answer->paused) continue;
    answer->paused = paused;
    scheduler_.SetPaused(id, paused);
  }
}

void EngineLoop::BeginLoads() {
  // The bytes of what they held before must not crowd out the first one.
  for (const int32_t slot : scheduler_.slots_to_load()) {
    runner_->UnloadAdapter(slot);
  }
  for (const int32_t slot : scheduler_.slots_to_load()) {
    StartLoad(slot, scheduler_.slots().adapter(slot));
  }
}

void EngineLoop::StartLoad(int32_t slot,
                           std::shared_ptr<const Adapter> adapter) {
  const SlotTable& slots = scheduler_.slots();
  bool alone = loads_in_flight_ == 0;
  for (int32_t other = 0; other < slots.num_slots(); ++other) {
    alone = alone && !slots.loaded(other);
  }
  if (alone) alone_slot_ = slot;
  ++loads_in_flight_;
  loader_.Start(slot, std::move(adapter));
}

void EngineLoop::EndLoads() {
  loader_.TakeLoaded(&loaded_);
  if (loaded_.empty()) return;
  ++adapter_lists_version_;
  for (LoadedSlot& loaded : loaded_) EndLoad(&loaded);
  if (loads_in_flight_ > 0 || parked_.empty()) return;
  LoadedSlot parked = std::move(parked_.front());
  parked_.erase(parked_.begin());
  FindRoom(&parked);
}

void EngineLoop::EndLoad(LoadedSlot* loaded) {
  const int32_t slot = loaded->slot;
  --loads_in_flight_;
  if (loaded->status.ok()) {
    ++counts_.adapter_loads;
    scheduler_.SlotLoaded(slot);
  } else {
    runner_->UnloadAdapter(slot);
    if (loaded->no_room) {
      FindRoom(loaded);
    } else {
      FailLoad(*loaded);
    }
  }
  if (alone_slot_ == slot && !scheduler_.slots().loading(slot)) {
    alone_slot_ = -1;
  }
}

// Idle adapters make room for the one that is wanted; else those that run do,
// when they are done. Only what finds no room alone can never be loaded.
void EngineLoop::FindRoom(LoadedSlot* loaded) {
  const int32_t slot = loaded->slot;
  SlotTable& slots = scheduler_.slots();
  // Nobody waits for it any more.
  if (slots.leases(slot) == 0) return scheduler_.DeferSlot(slot);
  if (const std::optional<int32_t> idle = slots.EvictOne()) {
    runner_->UnloadAdapter(*idle);
    return StartLoad(slot, std::move(loaded->adapter));
  }
  if (OtherAdapterRuns(slot)) return scheduler_.DeferSlot(slot);
  if (alone_slot_ == slot) return FailLoad(*loaded);
  if (loads_in_flight_ == 0) {
    return StartLoad(slot, std::move(loaded->adapter));
  }
  parked_.push_back(std::move(*loaded));
}

void EngineLoop::FailLoad(const LoadedSlot& loaded) {
  LogWarning("adapter ", LabelOf(*scheduler_.slots().adapter(loaded.slot)),
             " could not be loaded: ", loaded.status.ToString());
  scheduler_.SlotLoadFailed(loaded.slot);
  Deliver(nullptr, loaded.status);
}

bool EngineLoop::OtherAdapterRuns(int32_t slot) const {
  const SlotTable& slots = scheduler_.slots();
  for (int32_t other = 0; other < slots.num_slots(); ++other) {
    if (other != slot && slots.leases(other) > 0 && slots.loaded(other)) {
      return true;
    }
  }
  return false;
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
      counts_.generated_tokens += event.end - event.begin;
      const bool stopped = answer.Append(event, *output, now);
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
    }
    ++adapter_lists_version_;
    answer.Finish(event, StatusOf(event.finish, failure), now);
  }
  scheduler_.ClearEvents();
}

void EngineLoop::UpdateStats(EngineStats* stats) {
  counts_.running = scheduler_.running();
  counts_.waiting = scheduler_.waiting() + scheduler_.preempted();
  counts_.blocks_total = scheduler_.blocks().total();
  counts_.blocks_used = scheduler_.blocks().used();
  counts_.slots_total = scheduler_.slots().num_slots();
  counts_.slots_used = scheduler_.slots().occupied();
  counts_.preemptions = scheduler_.preemptions();
  counts_.adapter_evictions = scheduler_.slots().evictions();
  if (adapter_lists_seen_ != adapter_lists_version_ ||
      last_running_ != counts_.running) {
    adapter_lists_seen_ = adapter_lists_version_;
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
