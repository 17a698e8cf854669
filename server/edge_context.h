// What every service of the edge shares. Built once, outlives all calls.
#ifndef DESCANT_SERVER_EDGE_CONTEXT_H_
#define DESCANT_SERVER_EDGE_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/base_shape.h"
#include "adapters/registry.h"
#include "adapters/store.h"
#include "descant/v1/adapter.pb.h"
#include "grpcpp/server_context.h"
#include "runtime/base/clock.h"
#include "runtime/engine.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/adapter_feed.h"
#include "server/call_limit.h"
#include "server/egress.h"
#include "server/front_pool.h"
#include "server/json_lines_log.h"
#include "server/limits.h"
#include "server/memory_budget.h"
#include "server/metrics.h"
#include "server/pinned_adapters.h"
#include "server/request_validation.h"
#include "server/tenant_admission.h"
#include "server/tenant_usage.h"
#include "server/tenants.h"
#include "server/upload_table.h"
#include "server/wait_estimate.h"

namespace descant {

class AuditLog;  // server/audit_log.h

// For GetModel. Constant.
struct ModelFacts {
  std::string name;
  std::string architecture;
  std::string fingerprint;
  std::string device;
  std::string version;
  std::vector<int32_t> eos_token_ids;
  std::vector<std::string> target_modules;
  std::vector<BaseModule> linear_modules;
};

// Constant.
struct EdgeOptions {
  ModelLimits model;
  Duration request_timeout = std::chrono::minutes(10);
  Duration stream_stall_timeout = std::chrono::seconds(30);
  Duration upload_idle_timeout = std::chrono::seconds(30);
  uint64_t max_upload_bytes = uint64_t{1} << 30;
  int32_t max_adapter_rank = 512;
  int32_t max_stored_adapters = 100000;
  int32_t adapter_slots = 0;
  int32_t max_running = 0;
  bool prefix_cache = true;
  // Clients are asked for certificates (--tls-client-ca).
  bool client_certificates = false;
  // AdminService takes calls without a key.
  bool open_admin = true;
};

// Thread-safe: pointers to thread-safe parts, constants and atomics.
struct EdgeContext {
  Engine* engine = nullptr;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  AdapterRegistry* registry = nullptr;
  AdapterStore* store = nullptr;
  Metrics* metrics = nullptr;
  FrontPool* front_pool = nullptr;
  FrontPool* upload_pool = nullptr;
  FrontPool* maintenance_pool = nullptr;  // work that may take minutes
  AdapterFeed* feed = nullptr;
  PinnedAdapters* pins = nullptr;
  FrontPool* download_pool = nullptr;
  std::shared_ptr<UploadTable> upload_table;
  Egress* egress = nullptr;
  const Clock* clock = nullptr;
  const TenantsFile* tenants = nullptr;  // null: tenants are off
  TenantAdmission* admission = nullptr;
  MemoryBudget* memory = nullptr;  // of requests and their answers
  AuditLog* audit = nullptr;       // null: off
  TenantUsage* usage = nullptr;
  JsonLinesLog* usage_log = nullptr;  // null: none is kept
  WaitEstimate* wait_estimate = nullptr;
  ModelFacts facts;
  EdgeOptions options;

  // Set once, by the drain.
  std::atomic<bool> draining{false};
  std::atomic<RequestId> next_request_id{1};
  std::atomic<uint64_t> seed_state{0};
  std::atomic<bool> verifying{false};
  CallLimit watches{limits::kMaxWatches, limits::kMaxWatchesPerTenant};
  // Streams, not uploads: one that is parked takes no place.
  CallLimit uploads{limits::kMaxParallelUploads,
                    limits::kMaxParallelUploadsPerTenant};
  CallLimit downloads{limits::kMaxParallelDownloads,
                      limits::kMaxParallelDownloadsPerTenant};
  // Generations, uploads and downloads that are not done: what a drain waits
  // for.
  std::atomic<int> active_calls{0};

  // A seed for a request that brought none.
  uint64_t DrawSeed();
  // The call's deadline, at most `request_timeout` from now.
  MonotonicTime DeadlineOf(const grpc::CallbackServerContext& context) const;
  const ChatTemplate* chat() const {
    return chat_template.has_value() ? &*chat_template : nullptr;
  }
};

// "tenant/name", or "name" where tenants are off: for metrics and logs.
std::string AdapterLabel(absl::string_view tenant, absl::string_view name);
// UNAVAILABLE while the server drains.
absl::Status CheckAdmitting(const EdgeContext& edge);
// UNAVAILABLE: a pool is full.
absl::Status PoolFull();
// RESOURCE_EXHAUSTED: a stream's reader took nothing for too long.
absl::Status ReaderStopped();

}  // namespace descant

#endif  // DESCANT_SERVER_EDGE_CONTEXT_H_
