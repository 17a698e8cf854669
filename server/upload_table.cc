#include "server/upload_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "adapters/identity.h"
#include "google/protobuf/util/message_differencer.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "server/errors.h"

namespace descant {
namespace {

absl::Status Unknown() {
  return ReasonedError(absl::StatusCode::kNotFound, reason::kUploadUnknown,
                       "no such upload: begin it again");
}

absl::Status Busy() {
  return ReasonedError(absl::StatusCode::kUnavailable, reason::kUploadBusy,
                       "another stream holds this upload and was told to end");
}

absl::Status Closed() {
  return ReasonedError(absl::StatusCode::kUnavailable, reason::kDraining,
                       "the server is shutting down");
}

absl::Status WrongOffset(uint64_t committed) {
  return ReasonedError(absl::StatusCode::kFailedPrecondition,
                       reason::kUploadOffset,
                       absl::StrCat("header.offset: the upload goes on at ",
                                    committed, " bytes"),
                       "header.offset");
}

// What all streams of an upload have in common, small whatever the client
// sent: of the configuration only its hash.
v1::UploadAdapterHeader Comparable(const v1::UploadAdapterHeader& header) {
  v1::UploadAdapterHeader copy = header;
  copy.DiscardUnknownFields();
  copy.clear_offset();
  copy.set_config_json(HexOf(Sha256Of(header.config_json())));
  return copy;
}

absl::Status CheckSame(const v1::UploadAdapterHeader& first,
                       const v1::UploadAdapterHeader& now) {
  const google::protobuf::Descriptor* type = first.GetDescriptor();
  const google::protobuf::Reflection* reflection = first.GetReflection();
  for (int i = 0; i < type->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = type->field(i);
    google::protobuf::util::MessageDifferencer differencer;
    // "Unset" and "zero" of an optional field are two things.
    const bool same_presence =
        !field->has_presence() ||
        reflection->HasField(first, field) == reflection->HasField(now, field);
    if (same_presence &&
        differencer.CompareWithFields(first, now, {field}, {field})) {
      continue;
    }
    return FieldError(absl::StrCat("header.", field->name()),
                      "must be as in the upload's first stream",
                      reason::kUploadMismatch);
  }
  return absl::OkStatus();
}

}  // namespace

UploadTable::UploadTable(const UploadTableOptions& options, const Clock* clock,
                         FrontPool* pool, OnGivenUp on_given_up)
    : options_(options),
      clock_(clock),
      pool_(pool),
      on_given_up_(std::move(on_given_up)) {}

absl::Status UploadTable::CheckRoomLocked(const std::string& tenant) const {
  size_t all = 0;
  size_t own = 0;
  for (const auto& [key, entry] : entries_) {
    if (entry.state == State::kFinished) continue;
    ++all;
    if (key.first == tenant) ++own;
  }
  if (all < options_.max_uploads && own < options_.max_uploads_per_tenant) {
    return absl::OkStatus();
  }
  return ReasonedError(absl::StatusCode::kResourceExhausted,
                       reason::kUploadLimit,
                       "too many uploads that are not finished");
}

absl::StatusOr<ClaimedUpload> UploadTable::Claim(
    const std::string& tenant, const v1::UploadAdapterHeader& header,
    std::weak_ptr<UploadHolder> holder) {
  v1::UploadAdapterHeader comparable = Comparable(header);
  std::shared_ptr<UploadHolder> rival;
  {
    MutexLock lock(&mutex_);
    if (closed_) return Closed();
    const Key key(tenant, header.upload_id());
    const auto it = entries_.find(key);
    ClaimedUpload claimed;
    if (it == entries_.end()) {
      if (header.offset() != 0) return Unknown();
      if (auto room = CheckRoomLocked(tenant); !room.ok()) return room;
      Entry& entry = entries_[key];
      entry.header = std::move(comparable);
      entry.holder = std::move(holder);
      entry.begun = claimed.begun = clock_->Now();
      return claimed;
    }
    Entry& entry = it->second;
    if (auto same = CheckSame(entry.header, comparable); !same.ok()) {
      return same;
    }
    if (entry.state != State::kHeld) {
      if (header.offset() != entry.committed) {
        return WrongOffset(entry.committed);
      }
      claimed.committed = entry.committed;
      claimed.begun = entry.begun;
      if (entry.state == State::kFinished) {
        claimed.result = entry.response;
        return claimed;
      }
      entry.state = State::kHeld;
      entry.holder = std::move(holder);
      claimed.upload = std::move(entry.upload);
      return claimed;
    }
    rival = entry.holder.lock();
  }
  // It parks the upload, for which it takes the lock.
  if (rival != nullptr) rival->GiveWay();
  return Busy();
}

void UploadTable::SetCommitted(const std::string& tenant,
                               const std::string& upload_id,
                               uint64_t committed) {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(tenant, upload_id));
  if (it != entries_.end()) it->second.committed = committed;
}

void UploadTable::Park(const std::string& tenant, const std::string& upload_id,
                       std::unique_ptr<AdapterUpload> upload,
                       uint64_t committed) {
  Duration took{};
  {
    MutexLock lock(&mutex_);
    const auto it = entries_.find(Key(tenant, upload_id));
    DESCANT_CHECK(it != entries_.end() && it->second.state == State::kHeld);
    Entry& entry = it->second;
    entry.touched = clock_->Now();
    if (!closed_) {
      entry.state = State::kParked;
      entry.upload = std::move(upload);
      entry.committed = committed;
      entry.holder.reset();
      return;
    }
    took = entry.touched - entry.begun;
    entries_.erase(it);
  }
  on_given_up_(absl::StatusCode::kUnavailable, took);
}

void UploadTable::Forget(const std::string& tenant,
                         const std::string& upload_id) {
  MutexLock lock(&mutex_);
  entries_.erase(Key(tenant, upload_id));
}

void UploadTable::Complete(const std::string& tenant,
                           const std::string& upload_id,
                           const v1::UploadAdapterResponse& response) {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(tenant, upload_id));
  DESCANT_CHECK(it != entries_.end() && it->second.state == State::kHeld);
  Entry& entry = it->second;
  entry.state = State::kFinished;
  entry.committed = entry.header.size_bytes();
  entry.touched = clock_->Now();
  entry.holder.reset();
  entry.response = response;
  TrimResultsLocked(tenant);
}

void UploadTable::TrimResultsLocked(const std::string& tenant) {
  size_t all = 0;
  size_t own = 0;
  auto oldest = entries_.end();
  auto oldest_own = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->second.state != State::kFinished) continue;
    const auto older = [&](Entries::iterator than) {
      return than == entries_.end() ||
             it->second.touched < than->second.touched;
    };
    ++all;
    if (older(oldest)) oldest = it;
    if (it->first.first != tenant) continue;
    ++own;
    if (older(oldest_own)) oldest_own = it;
  }
  // One came; one goes.
  if (own > options_.max_results_per_tenant) {
    entries_.erase(oldest_own);
  } else if (all > options_.max_results) {
    entries_.erase(oldest);
  }
}

absl::StatusOr<v1::QueryUploadResponse> UploadTable::Query(
    const std::string& tenant, const std::string& upload_id) const {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(tenant, upload_id));
  if (it == entries_.end()) return Unknown();
  const Entry& entry = it->second;
  v1::QueryUploadResponse response;
  response.set_committed_size(entry.committed);
  if (entry.state == State::kFinished) {
    response.set_complete(true);
    *response.mutable_adapter() = entry.response.adapter();
  }
  return response;
}

bool UploadTable::IsExpired(const Entry& entry, MonotonicTime now) const {
  return entry.state != State::kHeld &&
         now - entry.touched >= options_.idle_timeout;
}

std::vector<UploadTable::Entry> UploadTable::TakeLocked(
    const std::function<bool(const Entry&)>& wanted) {
  std::vector<Entry> taken;
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (it->second.state == State::kHeld || !wanted(it->second)) {
      ++it;
      continue;
    }
    taken.push_back(std::move(it->second));
    it = entries_.erase(it);
  }
  return taken;
}

void UploadTable::DropExpired(MonotonicTime now) {
  std::vector<Entry> expired;
  {
    MutexLock lock(&mutex_);
    dropping_ = false;
    expired =
        TakeLocked([&](const Entry& entry) { return IsExpired(entry, now); });
  }
  for (const Entry& entry : expired) {
    if (entry.state == State::kFinished) continue;
    on_given_up_(absl::StatusCode::kDeadlineExceeded, now - entry.begun);
  }
}

void UploadTable::Sweep(MonotonicTime now) {
  {
    MutexLock lock(&mutex_);
    const bool any = std::any_of(
        entries_.begin(), entries_.end(),
        [&](const auto& item) { return IsExpired(item.second, now); });
    if (!any || dropping_) return;
    dropping_ = true;
  }
  // Where the pool is full the next sweep tries again.
  const bool posted = pool_->TryPost(
      [self = shared_from_this(), now] { self->DropExpired(now); });
  if (posted) return;
  MutexLock lock(&mutex_);
  dropping_ = false;
}

void UploadTable::Close() {
  std::vector<Entry> parked;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    parked = TakeLocked(
        [](const Entry& entry) { return entry.state == State::kParked; });
  }
  const MonotonicTime now = clock_->Now();
  for (const Entry& entry : parked) {
    on_given_up_(absl::StatusCode::kUnavailable, now - entry.begun);
  }
}

}  // namespace descant
