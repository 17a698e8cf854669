#include "server/download_call.h"

#include <algorithm>
#include <utility>

#include "adapters/name.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/adapter_reference.h"
#include "server/authorization.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {

DownloadCall::DownloadCall(EdgeContext* edge,
                           grpc::CallbackServerContext* context,
                           const v1::DownloadAdapterRequest* request)
    : edge_(edge), context_(context), request_(request) {
  edge_->active_calls.fetch_add(1);
}

DownloadCall::~DownloadCall() { edge_->active_calls.fetch_sub(1); }

void DownloadCall::Begin() {
  MutexLock lock(&mutex_);
  self_ = shared_from_this();
  const absl::StatusOr<std::shared_ptr<const Tenant>> tenant =
      AuthorizeCall(*edge_, *context_, "DownloadAdapter");
  if (!tenant.ok()) return EndLocked(tenant.status());
  tenant_ = (*tenant)->id;
  if (auto status = CheckAdmitting(*edge_); !status.ok()) {
    return EndLocked(status);
  }
  counted_ = edge_->downloads.TryAcquire(tenant_);
  if (!counted_) {
    return EndLocked(ReasonedError(absl::StatusCode::kResourceExhausted,
                                   reason::kDownloadLimit,
                                   "too many downloads at once"));
  }
  PostLocked([this] { return Open(); });
}

template <typename Work>
void DownloadCall::PostLocked(Work work) {
  working_ = true;
  auto self = shared_from_this();
  const bool posted =
      edge_->download_pool->TryPost([self, work = std::move(work)] {
        const absl::Status status = work();
        MutexLock lock(&self->mutex_);
        self->working_ = false;
        self->AfterWorkLocked(status);
      });
  if (posted) return;
  working_ = false;
  EndLocked(PoolFull());
}

void DownloadCall::AfterWorkLocked(const absl::Status& status) {
  if (cancelled_) {
    return EndLocked(absl::CancelledError("the download was cancelled"));
  }
  if (!status.ok() || is_last_) return EndLocked(status);
  writing_ = true;
  write_started_ = edge_->clock->Now();
  StartWrite(&message_);
}

absl::Status DownloadCall::Open() {
  CallFacts facts;
  const auto id =
      ParseOwnAdapter(*edge_, tenant_, request_->adapter_id(), &facts);
  adapter_id_ = facts.adapter_id;
  DESCANT_RETURN_IF_ERROR(id.status());
  DESCANT_ASSIGN_OR_RETURN(const RegistryEntry entry,
                           edge_->registry->Find(tenant_, *id));
  DESCANT_ASSIGN_OR_RETURN(files_, edge_->store->OpenFiles(entry));
  v1::DownloadAdapterHeader* header = message_.mutable_header();
  DescribeOwnAdapter(*edge_, entry, header->mutable_adapter());
  header->set_config_json(files_->config_json());
  header->set_size_bytes(files_->safetensors_bytes());
  return absl::OkStatus();
}

absl::Status DownloadCall::ReadNext() {
  const uint64_t left = files_->safetensors_bytes() - read_;
  if (left == 0) {
    is_last_ = true;
    return files_->Finish();
  }
  std::string* chunk = message_.mutable_chunk();
  chunk->resize(std::min(left, limits::kDownloadChunkBytes));
  DESCANT_RETURN_IF_ERROR(
      files_->Read(read_, absl::MakeSpan(&(*chunk)[0], chunk->size())));
  read_ += chunk->size();
  return absl::OkStatus();
}

void DownloadCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  if (ended_) return;
  if (!ok || cancelled_) {
    return EndLocked(absl::CancelledError("the download was cancelled"));
  }
  PostLocked([this] { return ReadNext(); });
}

void DownloadCall::OnCancel() {
  MutexLock lock(&mutex_);
  cancelled_ = true;
  if (!working_) {
    EndLocked(absl::CancelledError("the download was cancelled"));
  }
}

void DownloadCall::Sweep(MonotonicTime now) {
  MutexLock lock(&mutex_);
  const Duration limit = edge_->options.stream_stall_timeout;
  if (done_) return;
  if (ended_) {
    // The status waits behind a message that nobody reads.
    if (now - ended_at_ > limit) context_->TryCancel();
    return;
  }
  if (!writing_ || now - write_started_ <= limit) return;
  EndLocked(ReaderStopped());
}

void DownloadCall::EndLocked(const absl::Status& status) {
  if (ended_) return;
  ended_ = true;
  ended_at_ = edge_->clock->Now();
  files_.reset();
  if (std::exchange(counted_, false)) edge_->downloads.Release(tenant_);
  if (!status.ok()) {
    edge_->metrics->RecordRefusal("DownloadAdapter",
                                  absl::StatusCodeToString(status.code()));
  }
  CallFacts facts;
  facts.adapter_id = adapter_id_;
  Finish(ToGrpcStatus(status, facts));
}

void DownloadCall::OnDone() {
  {
    MutexLock lock(&mutex_);
    done_ = true;
  }
  self_.reset();
}

}  // namespace descant
