#include "tests/server/upload_stream.h"

#include <chrono>
#include <thread>

namespace descant {

UploadStream::UploadStream(TestServer* server,
                           const v1::UploadAdapterHeader& header) {
  server->AddKey(&context_);
  writer_ = server->adapters().UploadAdapter(&context_, &response_);
  v1::UploadAdapterRequest message;
  *message.mutable_header() = header;
  writer_->Write(message);
}

bool UploadStream::Send(absl::string_view bytes, size_t chunk_bytes) {
  v1::UploadAdapterRequest message;
  while (!bytes.empty()) {
    const absl::string_view chunk = bytes.substr(0, chunk_bytes);
    message.set_chunk(chunk.data(), chunk.size());
    if (!writer_->Write(message)) return false;
    bytes.remove_prefix(chunk.size());
  }
  return true;
}

grpc::Status UploadStream::Close() {
  writer_->WritesDone();
  return writer_->Finish();
}

grpc::Status UploadStream::Cancel() {
  context_.TryCancel();
  return writer_->Finish();
}

grpc::Status UploadStream::Finish() { return writer_->Finish(); }

grpc::Status QueryUpload(TestServer* server, const std::string& upload_id,
                         v1::QueryUploadResponse* response) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::QueryUploadRequest request;
  request.set_upload_id(upload_id);
  return server->adapters().QueryUpload(&context, request, response);
}

grpc::Status ResumeUpload(TestServer* server, v1::UploadAdapterHeader header,
                          const std::string& bytes,
                          v1::UploadAdapterResponse* response, uint64_t* sent) {
  grpc::Status status;
  for (int i = 0; i < 500; ++i) {
    v1::QueryUploadResponse query;
    status = QueryUpload(server, header.upload_id(), &query);
    if (!status.ok() && status.error_code() != grpc::StatusCode::NOT_FOUND) {
      return status;
    }
    header.set_offset(query.committed_size());
    UploadStream stream(server, header);
    const std::string rest = bytes.substr(query.committed_size());
    if (stream.Send(rest) && sent != nullptr) *sent += rest.size();
    status = stream.Close();
    *response = stream.response();
    const std::string reason = ReasonIn(status);
    if (reason != "UPLOAD_BUSY" && reason != "UPLOAD_OFFSET") return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return status;
}

Download DownloadAdapter(TestServer* server, const std::string& adapter_id) {
  Download download;
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::DownloadAdapterRequest request;
  request.set_adapter_id(adapter_id);
  const auto reader = server->adapters().DownloadAdapter(&context, request);
  v1::DownloadAdapterResponse message;
  while (reader->Read(&message)) {
    if (message.has_header()) {
      download.header = message.header();
    } else {
      download.bytes += message.chunk();
      ++download.chunks;
    }
  }
  download.status = reader->Finish();
  return download;
}

grpc::Status GetAdapter(TestServer* server, const std::string& adapter_id,
                        v1::GetAdapterResponse* response) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::GetAdapterRequest request;
  request.set_adapter_id(adapter_id);
  return server->adapters().GetAdapter(&context, request, response);
}

grpc::Status DeleteAdapter(TestServer* server, const std::string& adapter_id,
                           v1::DeleteAdapterResponse* response) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::DeleteAdapterRequest request;
  request.set_adapter_id(adapter_id);
  v1::DeleteAdapterResponse unused;
  return server->adapters().DeleteAdapter(
      &context, request, response == nullptr ? &unused : response);
}

bool NothingIsStaged(TestServer* server) {
  for (int i = 0; i < 500; ++i) {
    const StoreStats stats = server->app().edge()->store->Stats();
    if (server->StagedFiles() == 0 && stats.open_uploads == 0 &&
        stats.staged_bytes == 0 && server->app().edge()->uploads.held() == 0) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace descant
