// Sending an adapter to a server.
#ifndef DESCANT_SERVER_CLI_ADAPTER_UPLOAD_H_
#define DESCANT_SERVER_CLI_ADAPTER_UPLOAD_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "descant/v1/adapter.grpc.pb.h"

namespace descant::cli {

// Streams `tensors` after `header`, whose size_bytes and sha256 it fills in.
// `progress`, where given, is told the bytes sent so far. The bytes are only
// read during the call.
grpc::Status UploadAdapter(v1::AdapterService::Stub* stub,
                           v1::UploadAdapterHeader header,
                           absl::string_view tensors,
                           const std::function<void(uint64_t)>& progress,
                           v1::UploadAdapterResponse* response);

// SHA-256 as 64 lower-case hex digits.
std::string Sha256Hex(absl::string_view bytes);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ADAPTER_UPLOAD_H_
