#include "server/cli/adapter_upload.h"

#include <openssl/sha.h>

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"

namespace descant::cli {
namespace {

using grpc::StatusCode;

constexpr size_t kChunkBytes = 1 << 20;

// Whether another stream may go on where this one ended.
bool IsInterruption(const grpc::Status& status) {
  if (status.error_code() == StatusCode::UNAVAILABLE) return true;
  // Without details it is not the server's own answer: the transport's, for a
  // connection or a stream that broke.
  if (status.error_details().empty()) {
    return status.error_code() == StatusCode::CANCELLED ||
           status.error_code() == StatusCode::INTERNAL ||
           status.error_code() == StatusCode::UNKNOWN;
  }
  const std::string reason = FactsOf(status).reason;
  return reason == "UPLOAD_IDLE" || reason == "UPLOAD_OFFSET" ||
         reason == "UPLOAD_UNKNOWN" || reason == "UPLOAD_TAKEN_OVER";
}

class ResumingUpload {
 public:
  ResumingUpload(v1::AdapterService::Stub* stub, v1::UploadAdapterHeader header,
                 absl::string_view tensors,
                 const std::function<void(uint64_t)>& progress,
                 const UploadRetry& retry)
      : stub_(stub),
        header_(std::move(header)),
        tensors_(tensors),
        progress_(progress),
        retry_(retry) {}

  grpc::Status Run(v1::UploadAdapterResponse* response) {
    while (true) {
      grpc::Status status = Stream(response);
      // A server that knows only part of it says so in its answer to a query;
      // one that can't be asked right now is asked again.
      while (!status.ok()) {
        if (!IsInterruption(status) || ++failures_ > retry_.max_failures) {
          return status;
        }
        Wait(status);
        const grpc::Status asked = FindOffset();
        if (asked.ok()) break;
        status = asked;
      }
      if (status.ok()) return status;
    }
  }

 private:
  // One stream from header_.offset() on.
  grpc::Status Stream(v1::UploadAdapterResponse* response) {
    grpc::ClientContext context;
    auto writer = stub_->UploadAdapter(&context, response);
    v1::UploadAdapterRequest message;
    *message.mutable_header() = header_;
    // A failed write means that the server has already answered; Finish() says
    // what.
    bool open = writer->Write(message);
    for (size_t sent = header_.offset(); open && sent < tensors_.size();) {
      const absl::string_view chunk = tensors_.substr(sent, kChunkBytes);
      message.set_chunk(chunk.data(), chunk.size());
      open = writer->Write(message);
      sent += chunk.size();
      if (progress_) progress_(sent);
    }
    if (open) writer->WritesDone();
    return writer->Finish();
  }

  // Asks where to go on.
  grpc::Status FindOffset() {
    grpc::ClientContext context;
    SetShortDeadline(&context);
    v1::QueryUploadRequest request;
    request.set_upload_id(header_.upload_id());
    v1::QueryUploadResponse answer;
    const grpc::Status status = stub_->QueryUpload(&context, request, &answer);
    if (status.error_code() == StatusCode::NOT_FOUND) {
      header_.set_offset(0);  // the server has restarted, or never saw it
      return grpc::Status::OK;
    }
    if (!status.ok()) return status;
    if (answer.committed_size() > header_.offset()) failures_ = 0;
    header_.set_offset(
        std::min<uint64_t>(answer.committed_size(), tensors_.size()));
    return status;
  }

  void Wait(const grpc::Status& status) {
    Duration delay = retry_.first_delay;
    for (int i = 1; i < failures_ && delay < retry_.max_delay; ++i) delay *= 2;
    delay = std::min(delay, retry_.max_delay);
    // Up to half as long again: not all clients come back together.
    delay += delay * std::uniform_int_distribution<int>(0, 50)(random_) / 100;
    delay = std::max(delay, FactsOf(status).retry_delay.value_or(Duration{}));
    if (retry_.wait) {
      retry_.wait(delay);
    } else {
      std::this_thread::sleep_for(delay);
    }
  }

  v1::AdapterService::Stub* const stub_;
  v1::UploadAdapterHeader header_;
  const absl::string_view tensors_;
  const std::function<void(uint64_t)>& progress_;
  const UploadRetry& retry_;
  int failures_ = 0;
  std::random_device random_;
};

}  // namespace

std::string Sha256Hex(absl::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         digest);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

std::string RandomUploadId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) {
    absl::StrAppend(&id, absl::Hex(uint32_t{random()}, absl::kZeroPad8));
  }
  return id;
}

grpc::Status UploadAdapter(v1::AdapterService::Stub* stub,
                           v1::UploadAdapterHeader header,
                           absl::string_view tensors,
                           const std::function<void(uint64_t)>& progress,
                           v1::UploadAdapterResponse* response,
                           const UploadRetry& retry) {
  header.set_size_bytes(tensors.size());
  header.set_sha256(Sha256Hex(tensors));
  if (!header.has_upload_id()) header.set_upload_id(RandomUploadId());
  return ResumingUpload(stub, std::move(header), tensors, progress, retry)
      .Run(response);
}

}  // namespace descant::cli
