// Sending an adapter to a server.
#ifndef DESCANT_SERVER_CLI_ADAPTER_UPLOAD_H_
#define DESCANT_SERVER_CLI_ADAPTER_UPLOAD_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "descant/v1/adapter.grpc.pb.h"
#include "runtime/base/clock.h"

namespace descant::cli {

// How long to try again.
struct UploadRetry {
  // Streams and queries that failed since the server last took bytes.
  int max_failures = 8;
  // Doubled from failure to failure, and never less than the server asks for.
  Duration first_delay = std::chrono::milliseconds(250);
  Duration max_delay = std::chrono::seconds(8);
  // Null: sleeps.
  std::function<void(Duration)> wait;
};

// Streams `tensors` after `header`, whose size_bytes, sha256 and, where it has
// none, upload_id it fills in. A stream that breaks, or that the server could
// not take just now, is continued by another one. `progress`, where given, is
// told the bytes sent so far, fewer than before where some are sent again. The
// bytes are only read during the call.
grpc::Status UploadAdapter(v1::AdapterService::Stub* stub,
                           v1::UploadAdapterHeader header,
                           absl::string_view tensors,
                           const std::function<void(uint64_t)>& progress,
                           v1::UploadAdapterResponse* response,
                           const UploadRetry& retry = {});

// 32 random hex digits.
std::string RandomUploadId();

// SHA-256 as 64 lower-case hex digits.
std::string Sha256Hex(absl::string_view bytes);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ADAPTER_UPLOAD_H_
