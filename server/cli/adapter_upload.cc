#include "server/cli/adapter_upload.h"

#include <openssl/sha.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"

namespace descant::cli {
namespace {

constexpr size_t kChunkBytes = 1 << 20;

}  // namespace

std::string Sha256Hex(absl::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         digest);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

grpc::Status UploadAdapter(v1::AdapterService::Stub* stub,
                           v1::UploadAdapterHeader header,
                           absl::string_view tensors,
                           const std::function<void(uint64_t)>& progress,
                           v1::UploadAdapterResponse* response) {
  header.set_size_bytes(tensors.size());
  header.set_sha256(Sha256Hex(tensors));
  grpc::ClientContext context;
  auto writer = stub->UploadAdapter(&context, response);
  v1::UploadAdapterRequest message;
  *message.mutable_header() = std::move(header);
  // A failed write means that the server has already answered; Finish() says
  // what.
  bool open = writer->Write(message);
  for (size_t sent = 0; open && sent < tensors.size();) {
    const absl::string_view chunk = tensors.substr(sent, kChunkBytes);
    message.set_chunk(chunk.data(), chunk.size());
    open = writer->Write(message);
    sent += chunk.size();
    if (progress) progress(sent);
  }
  if (open) writer->WritesDone();
  return writer->Finish();
}

}  // namespace descant::cli
