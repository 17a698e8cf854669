#include "server/watch_call.h"

#include "absl/strings/str_cat.h"
#include "adapters/name.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/authorization.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {

WatchCall::WatchCall(EdgeContext* edge, grpc::CallbackServerContext* context,
                     const v1::WatchAdaptersRequest* request)
    : edge_(edge), context_(context), name_(request->name()) {}

WatchCall::~WatchCall() {
  if (counted_) edge_->watches.Release(tenant_);
}

void WatchCall::Begin() {
  self_ = shared_from_this();
  if (absl::Status status = Admit(); !status.ok()) {
    edge_->metrics->RecordRefusal("WatchAdapters",
                                  absl::StatusCodeToString(status.code()));
    MutexLock lock(&mutex_);
    return EndLocked(status);
  }
  // Before the first page: what changes meanwhile is told twice, never lost.
  edge_->feed->Subscribe(tenant_, std::weak_ptr<Watcher>(self_));
  MutexLock lock(&mutex_);
  WakeLocked();
}

absl::Status WatchCall::Admit() {
  DESCANT_ASSIGN_OR_RETURN(const std::shared_ptr<const Tenant> tenant,
                           AuthorizeCall(*edge_, *context_, "WatchAdapters"));
  tenant_ = tenant->id;
  DESCANT_RETURN_IF_ERROR(CheckAdmitting(*edge_));
  if (!name_.empty()) {
    DESCANT_ASSIGN_OR_RETURN(const AdapterId id, ParseAdapterId(name_));
    if (!id.digest.empty()) return FieldError("name", "must be a name alone");
  }
  counted_ = edge_->watches.TryAcquire(tenant_);
  if (counted_) return absl::OkStatus();
  return ReasonedError(absl::StatusCode::kResourceExhausted,
                       reason::kWatchLimit,
                       absl::StrCat("more than ", limits::kMaxWatchesPerTenant,
                                    " watches of a tenant, or ",
                                    limits::kMaxWatches, " at all"));
}

void WatchCall::Changed(const AdapterChange& change) {
  if (!name_.empty() && change.name != name_) return;
  MutexLock lock(&mutex_);
  if (ended_ || fell_behind_) return;
  if (change.kind == AdapterChange::kChanged &&
      !changed_.emplace(change.name, change.digest).second) {
    return;
  }
  if (changes_.size() == limits::kMaxWatchPending) {
    fell_behind_ = true;
  } else {
    changes_.push_back(change);
  }
  WakeLocked();
}

void WatchCall::WakeLocked() {
  if (writing_ || waking_ || ended_) return;
  waking_ = true;
  edge_->egress->Wake(shared_from_this());
}

void WatchCall::Flush() {
  {
    MutexLock lock(&mutex_);
    waking_ = false;
    if (writing_ || ended_) return;
    if (fell_behind_) {
      return EndLocked(ReasonedError(
          absl::StatusCode::kResourceExhausted, reason::kWatchFellBehind,
          "more changes than this reader took; watch again"));
    }
  }
  std::optional<v1::WatchAdaptersResponse> next = ComposeNext();
  if (!next.has_value()) return;
  MutexLock lock(&mutex_);
  if (ended_) return;
  in_flight_ = *std::move(next);
  writing_ = true;
  write_started_ = edge_->clock->Now();
  StartWrite(&in_flight_);
}

std::optional<v1::WatchAdaptersResponse> WatchCall::ComposeNext() {
  if (!synced_) return ComposeExisting();
  while (true) {
    AdapterChange change;
    {
      MutexLock lock(&mutex_);
      if (changes_.empty()) return std::nullopt;
      change = std::move(changes_.front());
      changes_.pop_front();
      if (change.kind == AdapterChange::kChanged) {
        changed_.erase({change.name, change.digest});
      }
    }
    if (auto message = Compose(change)) return message;
  }
}

std::optional<v1::WatchAdaptersResponse> WatchCall::ComposeExisting() {
  if (!began_ && !name_.empty()) {
    began_ = true;
    const auto entry = edge_->registry->Get(tenant_, name_);
    if (entry.ok()) return Message(v1::ADAPTER_EVENT_EXISTING, *entry);
  }
  if (name_.empty() && next_in_page_ == page_.entries.size() &&
      (!began_ || !page_.next_page_token.empty())) {
    began_ = true;
    auto page =
        edge_->registry->List(tenant_, kMaxPageSize, page_.next_page_token);
    page_ = page.ok() ? *std::move(page) : AdapterPage();
    next_in_page_ = 0;
  }
  if (next_in_page_ < page_.entries.size()) {
    return Message(v1::ADAPTER_EVENT_EXISTING, page_.entries[next_in_page_++]);
  }
  page_ = AdapterPage();
  synced_ = true;
  v1::WatchAdaptersResponse message;
  message.set_event(v1::ADAPTER_EVENT_SYNCED);
  return message;
}

std::optional<v1::WatchAdaptersResponse> WatchCall::Compose(
    const AdapterChange& change) {
  if (change.kind == AdapterChange::kDeleted) {
    v1::WatchAdaptersResponse message;
    message.set_event(v1::ADAPTER_EVENT_DELETED);
    message.mutable_adapter()->set_name(change.name);
    message.mutable_adapter()->set_digest(change.digest);
    return message;
  }
  // Gone since: its end follows in the queue.
  const auto entry =
      edge_->registry->Find(tenant_, AdapterId{change.name, change.digest});
  if (!entry.ok()) return std::nullopt;
  return Message(change.kind == AdapterChange::kPublished
                     ? v1::ADAPTER_EVENT_PUBLISHED
                     : v1::ADAPTER_EVENT_CHANGED,
                 *entry);
}

v1::WatchAdaptersResponse WatchCall::Message(v1::AdapterEvent event,
                                             const RegistryEntry& entry) const {
  v1::WatchAdaptersResponse message;
  message.set_event(event);
  DescribeOwnAdapter(*edge_, entry, message.mutable_adapter());
  return message;
}

void WatchCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  if (ok) WakeLocked();  // else the call is over, and OnCancel says so
}

void WatchCall::EndLocked(const absl::Status& status) {
  if (ended_) return;
  ended_ = true;
  ended_at_ = edge_->clock->Now();
  Finish(ToGrpcStatus(status));
}

void WatchCall::OnCancel() {
  MutexLock lock(&mutex_);
  EndLocked(absl::CancelledError("the watch was cancelled"));
}

void WatchCall::Sweep(MonotonicTime now) {
  const Duration limit = edge_->options.stream_stall_timeout;
  MutexLock lock(&mutex_);
  if (done_) return;
  if (ended_) {
    // The status waits behind a message that nobody reads.
    if (now - ended_at_ > limit) context_->TryCancel();
    return;
  }
  // A watch is nothing that a drain waits for.
  if (absl::Status status = CheckAdmitting(*edge_); !status.ok()) {
    return EndLocked(status);
  }
  if (!writing_ || now - write_started_ <= limit) return;
  EndLocked(ReaderStopped());
}

void WatchCall::OnDone() {
  {
    MutexLock lock(&mutex_);
    done_ = true;
  }
  self_.reset();
}

}  // namespace descant
