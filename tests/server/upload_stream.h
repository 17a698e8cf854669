// Uploads and downloads by hand, for tests that break them.
#ifndef DESCANT_TESTS_SERVER_UPLOAD_STREAM_H_
#define DESCANT_TESTS_SERVER_UPLOAD_STREAM_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/server/test_server.h"

namespace descant {

// One UploadAdapter stream; the header is sent at once.
class UploadStream {
 public:
  UploadStream(TestServer* server, const v1::UploadAdapterHeader& header);

  // In chunks; false where the server has ended the stream.
  bool Send(absl::string_view bytes, size_t chunk_bytes = 64 << 10);
  // Each ends the stream, once: half-closed, cancelled, or by the server.
  grpc::Status Close();
  grpc::Status Cancel();
  grpc::Status Finish();

  const v1::UploadAdapterResponse& response() const { return response_; }

 private:
  grpc::ClientContext context_;
  v1::UploadAdapterResponse response_;
  std::unique_ptr<grpc::ClientWriter<v1::UploadAdapterRequest>> writer_;
};

grpc::Status QueryUpload(TestServer* server, const std::string& upload_id,
                         v1::QueryUploadResponse* response);

// Goes on with an upload until it ends for good: asks where, and sends the
// rest, as often as another stream is still held to be alive. `sent`, where
// given, counts the bytes that were sent.
grpc::Status ResumeUpload(TestServer* server, v1::UploadAdapterHeader header,
                          const std::string& bytes,
                          v1::UploadAdapterResponse* response,
                          uint64_t* sent = nullptr);

struct Download {
  grpc::Status status;
  v1::DownloadAdapterHeader header;
  std::string bytes;
  int chunks = 0;
};
Download DownloadAdapter(TestServer* server, const std::string& adapter_id);

grpc::Status GetAdapter(TestServer* server, const std::string& adapter_id,
                        v1::GetAdapterResponse* response);
grpc::Status DeleteAdapter(TestServer* server, const std::string& adapter_id,
                           v1::DeleteAdapterResponse* response = nullptr);

// Whether nothing of any upload is left, within five seconds: no staged file,
// nothing reserved, no stream.
bool NothingIsStaged(TestServer* server);

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_UPLOAD_STREAM_H_
