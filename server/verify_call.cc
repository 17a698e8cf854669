#include "server/verify_call.h"

#include <string>
#include <utility>

#include "adapters/store.h"
#include "runtime/base/reason.h"
#include "server/audit_trail.h"
#include "server/authorization.h"
#include "server/errors.h"

namespace descant {

VerifyCall::~VerifyCall() {
  if (counted_) edge_->verifying = false;
}

void VerifyCall::Begin() {
  self_ = shared_from_this();
  MutexLock lock(&mutex_);
  Caller caller;
  absl::Status status =
      AuthorizeOperator(*edge_, *context_, "VerifyStore", &caller);
  if (status.ok()) status = CheckAdmitting(*edge_);
  // That it began: it changes nothing.
  AuditCall(*edge_, caller, "VerifyStore", {}, status);
  if (!status.ok()) {
    return EndLocked(status);
  }
  if (edge_->verifying.exchange(true)) {
    return EndLocked(ReasonedError(absl::StatusCode::kUnavailable,
                                   reason::kVerifyBusy,
                                   "a check of the store is under way"));
  }
  counted_ = true;
  versions_ = edge_->store->AllVersions();
  PostNextLocked();
}

void VerifyCall::PostNextLocked() {
  const bool posted = edge_->maintenance_pool->TryPost(
      [self = shared_from_this()] { self->VerifyNext(); });
  if (!posted) EndLocked(PoolFull());
}

void VerifyCall::VerifyNext() {
  v1::VerifyStoreResponse message;
  const bool last = next_ == versions_.size();
  if (last) {
    *message.mutable_summary() = summary_;
  } else {
    const VerifyResult result = edge_->store->Verify(versions_[next_++]);
    v1::VerifiedAdapter* adapter = message.mutable_adapter();
    adapter->set_tenant(result.info.tenant);
    adapter->set_name(result.info.name);
    adapter->set_version(result.info.version);
    adapter->set_digest(result.info.digest);
    adapter->set_problem(std::string(result.status.message()));
    summary_.set_verified(summary_.verified() + 1);
    summary_.set_bytes(summary_.bytes() + result.bytes);
    if (!result.status.ok()) summary_.set_damaged(summary_.damaged() + 1);
  }
  MutexLock lock(&mutex_);
  if (ended_) return;
  message_ = std::move(message);
  last_ = last;
  if (last) {
    ended_ = true;
    StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&message_);
  }
}

void VerifyCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  if (ok && !last_ && !ended_) PostNextLocked();
}

void VerifyCall::EndLocked(const absl::Status& status) {
  if (ended_) return;
  ended_ = true;
  Finish(ToGrpcStatus(status));
}

void VerifyCall::OnCancel() {
  MutexLock lock(&mutex_);
  EndLocked(absl::CancelledError("the check was cancelled"));
}

}  // namespace descant
