// The server's configuration: command line over YAML file over defaults.
#ifndef DESCANT_SERVER_CONFIG_H_
#define DESCANT_SERVER_CONFIG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/clock.h"
#include "runtime/model/export_dtype.h"
#include "runtime/model/weight_type.h"

namespace descant {

class TenantDirectory;  // server/tenants.h
struct TlsMaterial;     // server/tls_certificate.h

// Whether the device is tested before it serves: server/self_test.h.
enum class StartupSelfTest : uint8_t { kAuto, kOn, kOff };

// Flags and YAML keys have the same names and values; see OptionsHelp(). 0
// means "chosen from the machine or the model" where the comment says so.
struct ServerConfig {
  std::string model;  // required
  std::string listen = "127.0.0.1:50051";
  std::string admin_listen = "127.0.0.1:50052";   // or "none"
  std::string metrics_listen = "127.0.0.1:9090";  // or "none"
  std::string adapter_dir;   // empty: under the user's state directory
  std::string tenants_file;  // empty: callers are not authenticated
  // What the file says; null without one.
  std::shared_ptr<const TenantDirectory> tenants;
  std::string tls_cert;       // empty: no TLS
  std::string tls_key;        // with tls_cert
  std::string tls_client_ca;  // empty: clients are asked for no certificate
  bool tls_require_client_cert = false;
  // What those files hold; null without TLS.
  std::shared_ptr<const TlsMaterial> tls;
  std::string audit_log;                         // empty: none
  uint64_t audit_log_size = uint64_t{64} << 20;  // bytes; 0: never rotated
  bool audit_fail_closed = false;
  std::string usage_log;                         // empty: none is kept
  uint64_t usage_log_size = uint64_t{64} << 20;  // bytes of one file
  std::string device = "auto";
  WeightType weights = WeightType::kBf16;
  AdapterWeightType adapter_weights = AdapterWeightType::kBf16;
  StartupSelfTest startup_self_test = StartupSelfTest::kAuto;
  std::string weights_cache;  // empty: DefaultWeightsCache(); or "none"
  int32_t threads = 0;        // 0: one per CPU of the cgroup
  int32_t max_model_len = 0;  // 0: the model's
  int32_t token_budget = 128;
  int32_t target_itl_ms = 0;  // 0: prefills take all rows there are
  bool prefix_cache = true;
  int32_t max_draft_tokens = 7;  // of a sequence in a step; 0: no speculation
  int32_t max_running = 64;
  int32_t max_waiting = 1024;
  int32_t max_waiting_tokens = 1 << 20;           // of prompts
  uint64_t request_memory = uint64_t{512} << 20;  // bytes
  uint64_t kv_memory = 0;                         // bytes; 0: chosen
  uint64_t adapter_memory = 0;                    // bytes; 0: chosen
  bool hot_merge = false;
  uint64_t merge_memory = 0;                           // bytes; 0: chosen
  uint64_t host_adapter_memory = uint64_t{256} << 20;  // bytes; 0: none kept
  int32_t max_adapters = 64;                           // slots on the device
  int32_t max_adapters_per_step = 0;                   // 0: max_adapters
  int32_t max_adapter_rank = 512;
  int32_t max_stored_adapters = 100000;
  uint64_t max_stored_size = 0;        // bytes; 0: what the disk has
  int32_t tenant_stored_adapters = 0;  // 0: no limit of its own
  uint64_t tenant_stored_size = 0;     // bytes; 0: no limit of its own
  int32_t adapter_versions = 4;        // kept of each name
  std::string adapters_manifest;       // empty: none
  Duration scrub_interval = std::chrono::hours(24);
  uint64_t max_upload_size = uint64_t{1} << 30;
  Duration request_timeout = std::chrono::minutes(10);
  Duration stream_stall_timeout = std::chrono::seconds(30);
  Duration upload_idle_timeout = std::chrono::seconds(30);
  Duration drain_timeout = std::chrono::seconds(30);
  Duration keepalive_time = std::chrono::seconds(60);
  Duration keepalive_timeout = std::chrono::seconds(20);
  Duration max_connection_age = std::chrono::hours(1);
  int32_t max_connections = 4096;
  Duration engine_stall_limit = std::chrono::seconds(30);
  bool reflection = false;
  bool insecure_no_auth = false;
  bool insecure_no_tls = false;

  bool help = false;           // command line only
  bool help_markdown = false;  // command line only
  bool version = false;        // command line only
  bool make_key = false;       // command line only
  bool verify_store = false;   // command line only; needs no model
  bool self_test = false;      // command line only

  // Command line only: an adapter id, "" where there is nothing to export, and
  // how.
  std::string export_merged;
  std::string out;
  ExportDtype export_dtype = ExportDtype::kAuto;
  uint64_t max_shard_size = 5'000'000'000;  // bytes
};

// `arguments` without the program's name. Reads --config and --tenants where
// given. Errors are one line that names the flag, or the file and its key, and
// what was expected: the process ends with exit code 78.
absl::StatusOr<ServerConfig> ParseConfig(
    const std::vector<std::string>& arguments);

// The text of --help.
std::string OptionsHelp();

// server/CONFIGURATION.md, whole; a test holds the file equal to it.
std::string OptionsMarkdown();

// Whether HOST:PORT can only be reached from this machine.
bool IsLoopbackAddress(absl::string_view address);

// "127.0.0.1:50051", "[::1]:50051", "localhost:50051".
absl::Status ValidateAddress(absl::string_view address);

// $XDG_STATE_HOME/descant/adapters or ~/.local/state/descant/adapters.
absl::StatusOr<std::string> DefaultAdapterDir();

// Bytes this process may use: the smaller of the machine's memory and the
// cgroup's limit.
uint64_t MachineMemoryBytes();

}  // namespace descant

#endif  // DESCANT_SERVER_CONFIG_H_
