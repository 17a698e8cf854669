#include "server/upload_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/limits.h"

namespace descant {
namespace {

absl::Status ProtocolError(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       reason::kUploadProtocol, message, "part");
}

absl::StatusOr<UploadSpec> MakeSpec(const v1::UploadAdapterHeader& header,
                                    const EdgeOptions& options,
                                    absl::string_view model_name) {
  DESCANT_RETURN_IF_ERROR(ValidateAdapterName(header.name(), model_name));
  if (header.config_json().size() > limits::kMaxConfigBytes) {
    return FieldError(
        "header.config_json",
        absl::StrCat("longer than ", limits::kMaxConfigBytes, " bytes"),
        reason::kConfigInvalid);
  }
  if (header.format() != v1::ADAPTER_FORMAT_UNSPECIFIED &&
      header.format() != v1::ADAPTER_FORMAT_SAFETENSORS) {
    return FieldError("header.format", "must be safetensors");
  }
  if (header.size_bytes() == 0) {
    return FieldError("header.size_bytes", "must be set",
                      reason::kUploadSizeMissing);
  }
  if (header.size_bytes() > options.max_upload_bytes) {
    return ReasonedError(
        absl::StatusCode::kResourceExhausted, reason::kUploadTooLarge,
        absl::StrCat("more than the ", options.max_upload_bytes,
                     " bytes an adapter may have"),
        "header.size_bytes");
  }
  if (header.has_sha256() && !IsSha256Hex(header.sha256())) {
    return FieldError("header.sha256", "must be 64 lower-case hex digits",
                      reason::kUploadSha256Invalid);
  }
  UploadSpec spec;
  spec.name = header.name();
  spec.config_json = header.config_json();
  spec.declared_size = header.size_bytes();
  spec.sha256 = header.sha256();
  spec.base_fingerprint = header.base_fingerprint();
  spec.condition.replace = header.replace();
  return spec;
}

}  // namespace

UploadCall::UploadCall(EdgeContext* edge, grpc::CallbackServerContext* context,
                       v1::UploadAdapterResponse* response)
    : edge_(edge),
      context_(context),
      response_(response),
      start_(edge->clock->Now()),
      last_message_(start_) {
  edge_->active_calls.fetch_add(1);
}

UploadCall::~UploadCall() {
  if (counted_) edge_->uploads.fetch_sub(1);
  edge_->active_calls.fetch_sub(1);
}

void UploadCall::Begin() {
  MutexLock lock(&mutex_);
  self_ = shared_from_this();
  absl::StatusOr<std::string> tenant = AuthenticateCall(*edge_, *context_);
  if (!tenant.ok()) return EndLocked(tenant.status());
  tenant_ = *std::move(tenant);
  if (auto status = CheckAdmitting(*edge_); !status.ok()) {
    return EndLocked(status);
  }
  counted_ = true;
  if (edge_->uploads.fetch_add(1) >= limits::kMaxParallelUploads) {
    return EndLocked(ReasonedError(
        absl::StatusCode::kResourceExhausted, reason::kUploadLimit,
        absl::StrCat("more than ", limits::kMaxParallelUploads,
                     " uploads at once")));
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
    return EndLocked(absl::CancelledError("the upload was cancelled"));
  }
  const absl::Status status = ok ? TakeMessageLocked() : TakeEndLocked();
  if (!status.ok()) return EndLocked(status);
  if (ok && !working_) ReadLocked();
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
  DESCANT_ASSIGN_OR_RETURN(
      UploadSpec spec,
      MakeSpec(message_.header(), edge_->options, edge_->facts.name));
  spec.tenant = tenant_;
  has_header_ = true;
  name_ = spec.name;
  declared_ = spec.declared_size;
  return PostLocked(false,
                    [this, spec = std::move(spec)] { return Open(spec); });
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
  return PostLocked(false,
                    [this, bytes = std::move(bytes)] { return Store(bytes); });
}

absl::Status UploadCall::TakeEndLocked() {
  if (!has_header_) return ProtocolError("the stream ended without a header");
  if (received_ < declared_) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         reason::kUploadTruncated,
                         absl::StrCat("the stream ended after ", received_,
                                      " of ", declared_, " bytes"),
                         "chunk");
  }
  std::string bytes = std::exchange(gathered_, {});
  return PostLocked(true,
                    [this, bytes = std::move(bytes)] { return Commit(bytes); });
}

template <typename Work>
absl::Status UploadCall::PostLocked(bool last, Work work) {
  working_ = true;
  auto self = shared_from_this();
  const bool posted =
      edge_->upload_pool->TryPost([self, last, work = std::move(work)] {
        absl::Status status = work();
        MutexLock lock(&self->mutex_);
        self->working_ = false;
        if (self->ended_) {
          self->upload_.reset();
          return;
        }
        // A commit that succeeded stays, whether or not the client is there.
        if (status.ok() && self->cancelled_ && !last) {
          status = absl::CancelledError("the upload was cancelled");
        }
        if (!status.ok() || last) return self->EndLocked(status);
        self->ReadLocked();
      });
  if (posted) return absl::OkStatus();
  working_ = false;
  return PoolFull();
}

absl::Status UploadCall::Open(const UploadSpec& spec) {
  if (edge_->registry->TotalUsage().adapters >=
          edge_->options.max_stored_adapters &&
      !edge_->registry->Get(spec.tenant, spec.name).ok()) {
    return ReasonedError(
        absl::StatusCode::kResourceExhausted, reason::kAdapterQuota,
        absl::StrCat("the server keeps at most ",
                     edge_->options.max_stored_adapters, " adapters"));
  }
  DESCANT_ASSIGN_OR_RETURN(upload_, edge_->store->BeginUpload(spec));
  return absl::OkStatus();
}

absl::Status UploadCall::Store(const std::string& bytes) {
  return upload_->Append({bytes.data(), bytes.size()});
}

absl::Status UploadCall::Commit(const std::string& bytes) {
  if (!bytes.empty()) DESCANT_RETURN_IF_ERROR(Store(bytes));
  DESCANT_ASSIGN_OR_RETURN(const PublishResult result, upload_->Commit());
  // The entry carries more than the result; another upload may have replaced
  // it since, and then the result is still what was stored.
  auto entry = edge_->registry->Get(result.info.tenant, result.info.name);
  if (!entry.ok() || entry->info.digest != result.info.digest) {
    entry = RegistryEntry{.info = result.info};
  }
  FillAdapter(*entry, edge_->facts.linear_modules,
              response_->mutable_adapter());
  response_->set_created(result.outcome != PublishOutcome::kUnchanged);
  return absl::OkStatus();
}

void UploadCall::EndLocked(const absl::Status& status) {
  if (ended_) return;
  ended_ = true;
  // Removes what was staged, unless it was committed.
  if (!working_) upload_.reset();
  const MonotonicTime now = edge_->clock->Now();
  edge_->metrics->RecordUpload(absl::StatusCodeToString(status.code()),
                               status.ok() ? received_ : 0, now - start_);
  if (status.ok()) {
    LogInfo("adapter ", AdapterLabel(tenant_, name_), " stored, ", received_,
            " bytes, ", response_->adapter().digest());
  }
  CallFacts facts;
  facts.adapter_id = name_;
  Finish(ToGrpcStatus(status, facts));
}

void UploadCall::OnCancel() {
  MutexLock lock(&mutex_);
  cancelled_ = true;
  if (!working_) {
    EndLocked(absl::CancelledError("the upload was cancelled"));
  }
}

void UploadCall::Sweep(MonotonicTime now) {
  MutexLock lock(&mutex_);
  if (ended_ || !reading_ ||
      now - last_message_ <= edge_->options.upload_idle_timeout) {
    return;
  }
  EndLocked(ReasonedError(absl::StatusCode::kDeadlineExceeded,
                          reason::kUploadIdle,
                          "the upload sent nothing for too long"));
}

void UploadCall::OnDone() { self_.reset(); }

}  // namespace descant
