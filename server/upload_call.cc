#include "server/upload_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/authorization.h"
#include "server/limits.h"
#include "server/upload_header.h"

namespace descant {
namespace {

absl::Status ProtocolError(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       reason::kUploadProtocol, message, "part");
}

absl::Status Cancelled() {
  return absl::CancelledError("the upload was cancelled");
}

}  // namespace

UploadCall::UploadCall(EdgeContext* edge, grpc::CallbackServerContext* context,
                       v1::UploadAdapterResponse* response)
    : edge_(edge),
      context_(context),
      response_(response),
      start_(edge->clock->Now()),
      last_message_(start_),
      begun_(start_) {
  edge_->active_calls.fetch_add(1);
}

UploadCall::~UploadCall() {
  if (counted_) edge_->uploads.Release(tenant_);
  edge_->active_calls.fetch_sub(1);
}

void UploadCall::Begin() {
  MutexLock lock(&mutex_);
  self_ = shared_from_this();
  const absl::StatusOr<std::shared_ptr<const Tenant>> tenant =
      AuthorizeCall(*edge_, *context_, "UploadAdapter", &caller_);
  if (!tenant.ok()) return EndLocked(tenant.status(), Leave::kNothing);
  tenant_ = (*tenant)->id;
  limits_ = (*tenant)->limits;
  if (auto status = CheckAdmitting(*edge_); !status.ok()) {
    return EndLocked(status, Leave::kNothing);
  }
  counted_ = edge_->uploads.TryAcquire(tenant_);
  if (!counted_) {
    return EndLocked(
        ReasonedError(absl::StatusCode::kResourceExhausted,
                      reason::kUploadLimit, "too many uploads at once"),
        Leave::kNothing);
  }
  ReadLocked();
}

void UploadCall::ReadLocked() {
  reading_ = true;
  last_message_ = edge_->clock->Now();
  StartRead(&message_);
}

void UploadCall::OnReadDone(bool ok) {
  MutexLock lock(&mutex_);
  reading_ = false;
  if (ended_) return;
  if (cancelled_ || (!ok && context_->IsCancelled())) {
    return EndLocked(Cancelled(), Leave::kParked);
  }
  const absl::Status status = ok ? TakeMessageLocked() : TakeEndLocked();
  if (!status.ok()) return EndLocked(status, Leave::kNothing);
  if (ok && !working_ && !ended_) ReadLocked();
}

absl::Status UploadCall::TakeMessageLocked() {
  switch (message_.part_case()) {
    case v1::UploadAdapterRequest::kHeader:
      return TakeHeaderLocked();
    case v1::UploadAdapterRequest::kChunk:
      return TakeChunkLocked();
    case v1::UploadAdapterRequest::PART_NOT_SET:
      break;
  }
  // An empty message counts as an empty chunk.
  message_.mutable_chunk();
  return TakeChunkLocked();
}

absl::Status UploadCall::TakeHeaderLocked() {
  if (has_header_) return ProtocolError("a second header");
  v1::UploadAdapterHeader header = std::move(*message_.mutable_header());
  DESCANT_ASSIGN_OR_RETURN(UploadSpec spec, MakeUploadSpec(header, *edge_));
  spec.tenant = tenant_;
  spec.quota = limits_.store;
  spec.max_rank = limits_.adapter_rank;
  has_header_ = true;
  name_ = spec.name;
  upload_id_ = header.upload_id();
  declared_ = spec.declared_size;
  validate_only_ = spec.validate_only;
  PostLocked([this, spec = std::move(spec), header = std::move(header)] {
    return Open(spec, header);
  });
  return absl::OkStatus();
}

absl::Status UploadCall::TakeChunkLocked() {
  if (!has_header_) return ProtocolError("the first message is no header");
  const std::string& chunk = message_.chunk();
  if (chunk.empty() && ++empty_chunks_ > limits::kMaxEmptyChunks) {
    return ProtocolError("too many empty chunks");
  }
  if (chunk.size() > limits::kMaxChunkBytes) {
    return ProtocolError(absl::StrCat("a chunk of more than ",
                                      limits::kMaxChunkBytes, " bytes"));
  }
  if (chunk.size() > declared_ - received_) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, reason::kUploadOverrun,
        absl::StrCat("more bytes than the ", declared_, " declared"), "chunk");
  }
  received_ += chunk.size();
  gathered_.append(chunk);
  if (gathered_.size() < limits::kUploadBatchBytes) return absl::OkStatus();
  std::string bytes = std::exchange(gathered_, {});
  PostLocked([this, bytes = std::move(bytes)]() -> absl::StatusOr<Next> {
    DESCANT_RETURN_IF_ERROR(Store(bytes));
    return Next::kRead;
  });
  return absl::OkStatus();
}

absl::Status UploadCall::TakeEndLocked() {
  if (!has_header_) return ProtocolError("the stream ended without a header");
  std::string bytes = std::exchange(gathered_, {});
  const bool is_whole = received_ == declared_;
  PostLocked([this, is_whole, bytes = std::move(bytes)] {
    return is_whole ? Commit(bytes) : StopShort(bytes);
  });
  return absl::OkStatus();
}

template <typename Work>
void UploadCall::PostLocked(Work work) {
  working_ = true;
  auto self = shared_from_this();
  const bool posted =
      edge_->upload_pool->TryPost([self, work = std::move(work)] {
        const absl::StatusOr<Next> next = work();
        MutexLock lock(&self->mutex_);
        self->working_ = false;
        self->AfterWorkLocked(next);
      });
  if (posted) return;
  working_ = false;
  EndLocked(PoolFull(), Leave::kParked);
}

void UploadCall::AfterWorkLocked(const absl::StatusOr<Next>& next) {
  if (!next.ok()) {
    // What is wrong with the content stays wrong; what stopped may go on.
    return EndLocked(next.status(),
                     stopped_short_ ? Leave::kParked : Leave::kNothing);
  }
  // A commit that succeeded stays, whether or not the client is there.
  if (*next == Next::kEnd) return EndLocked(absl::OkStatus(), Leave::kNothing);
  if (!interruption_.ok()) return EndLocked(interruption_, Leave::kParked);
  received_ = stored_;
  ReadLocked();
}

absl::StatusOr<UploadCall::Next> UploadCall::Open(
    const UploadSpec& spec, const v1::UploadAdapterHeader& header) {
  if (!upload_id_.empty()) DESCANT_RETURN_IF_ERROR(Claim(header));
  if (is_echo_) return Next::kEnd;
  if (upload_ != nullptr) return Next::kRead;
  DESCANT_ASSIGN_OR_RETURN(upload_, edge_->store->BeginUpload(spec));
  return Next::kRead;
}

absl::Status UploadCall::Claim(const v1::UploadAdapterHeader& header) {
  absl::StatusOr<ClaimedUpload> claimed = edge_->upload_table->Claim(
      tenant_, header, std::weak_ptr<UploadHolder>(shared_from_this()));
  is_echo_ = !claimed.ok() || claimed->result.has_value();
  if (!claimed.ok()) return claimed.status();
  if (is_echo_) {
    *response_ = *std::move(claimed->result);
    return absl::OkStatus();
  }
  claimed_ = true;
  upload_ = std::move(claimed->upload);
  stored_ = claimed->committed;
  begun_ = claimed->begun;
  return absl::OkStatus();
}

absl::Status UploadCall::Store(const std::string& bytes) {
  if (bytes.empty()) return absl::OkStatus();
  DESCANT_RETURN_IF_ERROR(upload_->Append({bytes.data(), bytes.size()}));
  stored_ += bytes.size();
  if (claimed_) {
    edge_->upload_table->SetCommitted(tenant_, upload_id_, stored_);
  }
  return absl::OkStatus();
}

absl::StatusOr<UploadCall::Next> UploadCall::Commit(const std::string& bytes) {
  DESCANT_RETURN_IF_ERROR(Store(bytes));
  DESCANT_ASSIGN_OR_RETURN(const PublishResult result, upload_->Commit());
  // The entry carries more than the result; another upload may have replaced
  // it since, and then the result is still what was stored.
  auto entry = edge_->registry->Get(result.info.tenant, result.info.name);
  if (!entry.ok() || entry->info.version != result.info.version) {
    entry = RegistryEntry{.info = result.info};
  }
  DescribeOwnAdapter(*edge_, *entry, response_->mutable_adapter());
  response_->set_created(!validate_only_ &&
                         result.outcome != PublishOutcome::kUnchanged);
  DESCANT_RETURN_IF_ERROR(AuditStored(result));
  return Next::kEnd;
}

absl::StatusOr<UploadCall::Next> UploadCall::StopShort(
    const std::string& bytes) {
  DESCANT_RETURN_IF_ERROR(Store(bytes));
  stopped_short_ = true;
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       reason::kUploadTruncated,
                       absl::StrCat("the stream ended after ", stored_, " of ",
                                    declared_, " bytes"),
                       "chunk");
}

void UploadCall::InterruptLocked(const absl::Status& status) {
  if (ended_) return;
  if (!working_) return EndLocked(status, Leave::kParked);
  if (interruption_.ok()) interruption_ = status;
}

void UploadCall::EndLocked(const absl::Status& status, Leave leave) {
  if (ended_) return;
  ended_ = true;
  const bool parks = claimed_ && upload_ != nullptr &&
                     leave == Leave::kParked && !edge_->draining;
  if (parks) {
    ParkLocked();
  } else {
    if (claimed_ && status.ok()) {
      edge_->upload_table->Complete(tenant_, upload_id_, *response_);
    } else if (claimed_) {
      edge_->upload_table->Forget(tenant_, upload_id_);
    }
    // Removes what was staged, unless it was committed.
    DropUploadLocked();
    Record(status);
  }
  CallFacts facts;
  if (ReasonOf(status) != reason::kUploadUnknown) facts.adapter_id = name_;
  Finish(ToGrpcStatus(status, facts));
}

absl::Status UploadCall::AuditStored(const PublishResult& result) {
  if (validate_only_) return absl::OkStatus();
  CallFacts facts;
  facts.adapter_id = name_;
  facts.digest = result.info.digest;
  facts.size_bytes = declared_;
  if (result.outcome == PublishOutcome::kReplaced) {
    facts.audit_event = "replace";
  }
  return AuditAndCommit(*edge_, caller_, "UploadAdapter", facts,
                        absl::OkStatus());
}

// An upload counts once, however many streams it took.
void UploadCall::Record(const absl::Status& status) {
  const std::string code = absl::StatusCodeToString(status.code());
  if (is_echo_) {
    if (!status.ok()) edge_->metrics->RecordRefusal("UploadAdapter", code);
    return;
  }
  edge_->metrics->RecordUpload(code, status.ok() ? declared_ : 0,
                               edge_->clock->Now() - begun_);
  if (status.ok()) {
    LogInfo("adapter ", AdapterLabel(tenant_, name_),
            validate_only_ ? " checked, " : " stored, ", declared_, " bytes, ",
            response_->adapter().digest());
  }
  if (status.ok() || validate_only_) return;
  CallFacts facts;
  facts.adapter_id = name_;
  facts.size_bytes = declared_;
  AuditCall(*edge_, caller_, "UploadAdapter", facts, status);
}

void UploadCall::ParkLocked() {
  if (!gathered_.empty()) {
    working_ = true;
    auto self = shared_from_this();
    std::string bytes = std::exchange(gathered_, {});
    if (edge_->upload_pool->TryPost(
            [self, bytes = std::move(bytes)] { self->StoreAndPark(bytes); })) {
      return;
    }
    working_ = false;
  }
  edge_->upload_table->Park(tenant_, upload_id_, std::move(upload_), stored_);
}

void UploadCall::StoreAndPark(const std::string& bytes) {
  if (const absl::Status status = Store(bytes); !status.ok()) {
    edge_->upload_table->Forget(tenant_, upload_id_);
    upload_.reset();
    return Record(status);
  }
  edge_->upload_table->Park(tenant_, upload_id_, std::move(upload_), stored_);
}

// Files are removed on the pool too; where it is full, here.
void UploadCall::DropUploadLocked() {
  if (upload_ == nullptr) return;
  std::shared_ptr<AdapterUpload> last(std::move(upload_));
  edge_->upload_pool->TryPost(
      [last = std::move(last)]() mutable { last.reset(); });
}

void UploadCall::OnCancel() {
  MutexLock lock(&mutex_);
  cancelled_ = true;
  InterruptLocked(Cancelled());
}

void UploadCall::GiveWay() {
  MutexLock lock(&mutex_);
  InterruptLocked(ReasonedError(absl::StatusCode::kAborted,
                                reason::kUploadTakenOver,
                                "another stream goes on with this upload"));
}

void UploadCall::Sweep(MonotonicTime now) {
  MutexLock lock(&mutex_);
  if (ended_ || !reading_ ||
      now - last_message_ <= edge_->options.upload_idle_timeout) {
    return;
  }
  EndLocked(
      ReasonedError(absl::StatusCode::kDeadlineExceeded, reason::kUploadIdle,
                    "the upload sent nothing for too long"),
      Leave::kParked);
}

void UploadCall::OnDone() { self_.reset(); }

}  // namespace descant
