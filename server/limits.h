// Every limit of the edge that is not a flag, in one place. A request beyond
// one of them is refused before anything is allocated for it.
#ifndef DESCANT_SERVER_LIMITS_H_
#define DESCANT_SERVER_LIMITS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "runtime/base/clock.h"

namespace descant::limits {

// Transport. Beyond these gRPC itself answers RESOURCE_EXHAUSTED, makes the
// client wait, or closes: server/TRANSPORT.md.
inline constexpr int kMaxReceiveBytes = 4 << 20;
inline constexpr int kMaxSendBytes = 64 << 20;
inline constexpr int kMaxMetadataBytes = 8 << 10;
// An API key, or a token; and what a token may hold.
inline constexpr size_t kMaxBearerBytes = 4 << 10;
inline constexpr int32_t kMaxJwtDepth = 8;
inline constexpr int32_t kMaxJwtValues = 256;
inline constexpr size_t kMaxJwtIssuers = 16;
inline constexpr size_t kMaxJwtKeys = 16;    // of an issuer
inline constexpr size_t kMaxSpiffeIds = 64;  // of a tenant
inline constexpr size_t kMaxSpiffeIdBytes = 2048;
// Of one connection. A proxy puts all its clients on one, and a call beyond the
// limit waits in the client, where nobody sees it: so it is as high as the
// server's own queue.
inline constexpr int kMaxConcurrentStreams = 1024;
inline constexpr size_t kTransportMemoryBytes = size_t{512} << 20;
// Of the operators' listener; --max-connections is for the other.
inline constexpr size_t kMaxAdminConnections = 128;
// File descriptors that connections leave to the store, the model, the log.
inline constexpr size_t kReservedFiles = 512;
inline constexpr int kHpackTableBytes = 4 << 10;
inline constexpr int kMaxFrameBytes = 16 << 10;
inline constexpr int kStreamWindowBytes = 64 << 10;  // at first
inline constexpr int kWriteBufferBytes = 64 << 10;   // of one stream
// To the client's HTTP/2 settings.
inline constexpr Duration kHandshakeTimeout = std::chrono::seconds(10);
// Between a client's pings while it has no call that moves.
inline constexpr Duration kMinPingInterval = std::chrono::seconds(10);
inline constexpr int kMaxPingStrikes = 2;
// Without a call; then the client connects anew when it has one.
inline constexpr Duration kMaxConnectionIdle = std::chrono::minutes(15);

// What a client may send of frames that cost it nothing; beyond that it floods,
// and its connection is closed (server/http2_meter.h).
struct FrameRate {
  int32_t burst;
  double per_second;
};
// Calls that a client gives up; a proxy gives up those of all its clients. gRPC
// works off some 10,000 a second.
inline constexpr FrameRate kResets = {2000, 1000};
// Clients measure the bandwidth with them: one a round trip while data comes.
inline constexpr FrameRate kPings = {1000, 500};
// With acknowledgements of the server's, which change with the bandwidth.
inline constexpr FrameRate kSettings = {100, 10};
// HEADERS and its CONTINUATION frames: 2 MiB at most. (Beyond kMaxMetadataBytes
// the call is refused; this is where the connection ends.)
inline constexpr int32_t kMaxHeaderBlockFrames = 128;
// For so long the address of a client that flooded gets no new connection.
inline constexpr Duration kFloodPenalty = std::chrono::seconds(1);
inline constexpr size_t kMaxFloodingAddresses = 4096;  // that are remembered

// Generate.
inline constexpr uint64_t kMaxPromptBytes = 1 << 20;
inline constexpr int32_t kMaxChatMessages = 256;
inline constexpr int32_t kMaxToolCalls = 64;  // of a message
inline constexpr int32_t kMaxTools = 64;
inline constexpr size_t kMaxToolBytes = 64 << 10;
inline constexpr size_t kMaxToolsBytes = 256 << 10;  // of all together
inline constexpr size_t kMaxTemplateVariablesBytes = 16 << 10;
inline constexpr size_t kMaxChatNameBytes = 256;  // names and ids of calls
inline constexpr int32_t kDefaultMaxTokens = 256;
inline constexpr int32_t kMaxTopLogprobs = 20;  // of answer and of prompt
inline constexpr int32_t kMaxChoices = 16;      // n, and best_of
inline constexpr int32_t kMaxLogitBias = 1024;  // entries
inline constexpr float kMaxBias = 100;
inline constexpr float kBanBias = -100;  // and below
inline constexpr float kMinRepetitionPenalty = 0.01f;
inline constexpr float kMaxRepetitionPenalty = 100;
inline constexpr float kMaxPenalty = 2;  // presence, frequency; its negative
inline constexpr int32_t kMaxStopEntries = 16;  // strings; and ids
inline constexpr int32_t kMaxStopStringBytes = 256;
inline constexpr int32_t kMaxClientRequestIdBytes = 128;
inline constexpr int32_t kMaxPriority = 100;  // and its negative
inline constexpr size_t kMaxAdapterIdBytes = 256;
// Temperatures below this are greedy: logits divided by them overflow.
inline constexpr float kMinTemperature = 1e-5f;

// What a call takes of --request-memory beside its messages.
inline constexpr uint64_t kCallBytes = 16 << 10;

// Violations that one refusal names.
inline constexpr size_t kMaxViolations = 16;
// Rows of a step that score prompts or are drafts, beyond one a sequence: what
// the buffer of logits has room for.
inline constexpr int32_t kSpareOutputs = 32;

// An engine hangs when it makes no progress for --engine-stall-limit and for so
// many times its longest step, but for no longer than kMaxStallLimit.
inline constexpr double kStallSteps = 10;
inline constexpr Duration kMaxStallLimit = std::chrono::minutes(5);

// Streams. A stream with this much memory waiting for its reader is paused (as
// much again may be on its way to it); see --stream-stall-timeout for what
// follows.
inline constexpr size_t kMaxStreamPendingBytes = 256 << 10;

// Uploads.
inline constexpr uint64_t kMaxConfigBytes = 64 << 10;
inline constexpr uint64_t kMaxChunkBytes = 2 << 20;
inline constexpr int kMaxEmptyChunks = 16;
inline constexpr int kMaxParallelUploads = 8;
inline constexpr int kMaxParallelUploadsPerTenant = 6;
inline constexpr size_t kMaxBaseFingerprintBytes = 128;
// Uploads with an upload_id. Each that is not finished holds an open file and
// at most a safetensors header (1 MiB) of memory; a result some kilobytes.
inline constexpr size_t kMinUploadIdBytes = 8;
inline constexpr size_t kMaxUploadIdBytes = 64;
inline constexpr size_t kMaxOpenUploads = 128;
inline constexpr size_t kMaxOpenUploadsPerTenant = 32;
// Their bytes together, in files of --max-upload-size.
inline constexpr uint64_t kMaxStagedFiles = 32;
inline constexpr uint64_t kMaxStagedFilesPerTenant = 8;
inline constexpr size_t kMaxUploadResults = 1024;
inline constexpr size_t kMaxUploadResultsPerTenant = 64;
inline constexpr Duration kUploadKeepTimeout = std::chrono::minutes(10);
// Small chunks are gathered up to this size before they are validated.
inline constexpr size_t kUploadBatchBytes = 512 << 10;

// Watches of adapters, in all and of one tenant; and changes that may wait for
// a watcher that is slow to read.
inline constexpr int kMaxWatches = 64;
inline constexpr int kMaxWatchesPerTenant = 8;
inline constexpr size_t kMaxWatchPending = 1024;
// Downloads. Each holds one chunk, and what the transport has of it.
inline constexpr uint64_t kDownloadChunkBytes = 1 << 20;
inline constexpr int kMaxParallelDownloads = 16;
inline constexpr int kMaxParallelDownloadsPerTenant = 8;
inline constexpr int kDownloadThreads = 2;
inline constexpr size_t kDownloadQueue = 64;

// Front pool: what may wait to be validated and tokenized.
inline constexpr int kFrontThreads = 2;
inline constexpr size_t kFrontQueue = 1024;
inline constexpr int kUploadThreads = 1;
inline constexpr size_t kUploadQueue = 64;
// The stored adapters are read through at this pace.
inline constexpr uint64_t kScrubBytesPerSecond = uint64_t{4} << 20;
inline constexpr int kMaintenanceThreads = 1;
inline constexpr size_t kMaintenanceQueue = 8;

// The audit log: bytes of a text, entries of a list, and lines that tell of
// callers turned away.
inline constexpr size_t kMaxAuditText = 256;
inline constexpr size_t kMaxAuditItems = 32;
inline constexpr double kAuditFailuresPerSecond = 10;
inline constexpr int kAuditFailuresBurst = 100;

// The metrics listener: connections, bytes of a request, and the time for a
// handshake, a request, an answer, or until the next request.
inline constexpr int kMaxHttpConnections = 64;
inline constexpr uint32_t kMaxHttpHeaderBytes = 16 << 10;
inline constexpr Duration kHttpTimeout = std::chrono::seconds(30);
inline constexpr Duration kHttpAcceptRetry = std::chrono::milliseconds(200);

// What a client that is told to come back waits.
inline constexpr Duration kRetryDelay = std::chrono::seconds(1);

// Adapters that GetStats tells of, the busiest first.
inline constexpr int kMaxActiveAdapters = 64;

// Series of per-adapter metrics; the others share the label "other".
inline constexpr size_t kMaxAdapterSeries = 100;

}  // namespace descant::limits

#endif  // DESCANT_SERVER_LIMITS_H_
