#include "server/config_options.h"

#include <chrono>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/core/speculation.h"
#include "server/config_values.h"

namespace descant {
namespace {

template <typename T>
auto Text(T ServerConfig::*field) {
  return [field](absl::string_view text, ServerConfig* config) {
    if (text.empty()) return absl::InvalidArgumentError("must not be empty");
    config->*field = std::string(text);
    return absl::OkStatus();
  };
}

auto Number(int32_t ServerConfig::*field, int64_t min, int64_t max) {
  return [field, min, max](absl::string_view text, ServerConfig* config) {
    return ParseNumber(text, min, max, &(config->*field));
  };
}

auto Bytes(uint64_t ServerConfig::*field, uint64_t min) {
  return [field, min](absl::string_view text, ServerConfig* config) {
    return ParseBytes(text, min, &(config->*field));
  };
}

auto Time(Duration ServerConfig::*field) {
  return [field](absl::string_view text, ServerConfig* config) {
    return ParseDuration(text, std::chrono::milliseconds(1),
                         std::chrono::hours(24), &(config->*field));
  };
}

auto Switch(bool ServerConfig::*field) {
  return [field](absl::string_view text, ServerConfig* config) {
    return ParseBool(text, &(config->*field));
  };
}

auto Address(std::string ServerConfig::*field, bool may_be_none) {
  return [field, may_be_none](absl::string_view text,
                              ServerConfig* config) -> absl::Status {
    if (!may_be_none || text != "none") {
      DESCANT_RETURN_IF_ERROR(ValidateAddress(text));
    }
    config->*field = std::string(text);
    return absl::OkStatus();
  };
}

absl::Status SetDevice(absl::string_view text, ServerConfig* config) {
  if (text != "auto" && text != "cpu" && text != "reference" &&
      text != "cuda") {
    return absl::InvalidArgumentError("must be auto, cpu, reference or cuda");
  }
  config->device = std::string(text);
  return absl::OkStatus();
}

absl::Status SetWeights(absl::string_view text, ServerConfig* config) {
  const std::optional<WeightType> type = ParseWeightType(text);
  if (!type.has_value()) {
    return absl::InvalidArgumentError("must be bf16, int8 or int4");
  }
  config->weights = *type;
  return absl::OkStatus();
}

absl::Status SetAdapterWeights(absl::string_view text, ServerConfig* config) {
  const std::optional<AdapterWeightType> type = ParseAdapterWeightType(text);
  if (!type.has_value()) {
    return absl::InvalidArgumentError("must be bf16 or int8");
  }
  config->adapter_weights = *type;
  return absl::OkStatus();
}

absl::Status SetStartupSelfTest(absl::string_view text, ServerConfig* config) {
  if (text == "auto") {
    config->startup_self_test = StartupSelfTest::kAuto;
  } else if (text == "on") {
    config->startup_self_test = StartupSelfTest::kOn;
  } else if (text == "off") {
    config->startup_self_test = StartupSelfTest::kOff;
  } else {
    return absl::InvalidArgumentError("must be auto, on or off");
  }
  return absl::OkStatus();
}

absl::Status SetPrefixCache(absl::string_view text, ServerConfig* config) {
  if (text != "on" && text != "off") {
    return absl::InvalidArgumentError("must be on or off");
  }
  config->prefix_cache = text == "on";
  return absl::OkStatus();
}

absl::Status SetHotMerge(absl::string_view text, ServerConfig* config) {
  if (text != "auto" && text != "off") {
    return absl::InvalidArgumentError("must be auto or off");
  }
  config->hot_merge = text == "auto";
  return absl::OkStatus();
}

using C = ServerConfig;
constexpr int64_t kMega = 1 << 20;

}  // namespace

const std::vector<ConfigOption>& ConfigOptions() {
  static const auto* const options = new std::vector<ConfigOption>{
      {"model", "PATH",
       "Base model: a GGUF file or a Hugging Face directory. Required.",
       Text(&C::model)},
      {"device", "NAME",
       "auto, cpu, reference (fp32, slow) or cuda. Default auto: cuda if "
       "built and present, else cpu.",
       SetDevice},
      {"threads", "N",
       "Kernel threads. Default: one for each CPU that the process may use, "
       "within its cgroup's quota.",
       Number(&C::threads, 1, 1024)},
      {"listen", "HOST:PORT",
       "Generation and adapters. Default 127.0.0.1:50051.",
       Address(&C::listen, false)},
      {"admin-listen", "HOST:PORT",
       "Operators' service, or none. Default 127.0.0.1:50052.",
       Address(&C::admin_listen, true)},
      {"metrics-listen", "HOST:PORT",
       "HTTP: Prometheus page /metrics, probes /livez and /readyz; or none. "
       "Default 127.0.0.1:9090.",
       Address(&C::metrics_listen, true)},
      {"tenants", "FILE",
       "YAML file of tenants, hashes of their API keys, weights, roles and "
       "limits; only its owner may have access to it. Every generation and "
       "adapter call then needs \"authorization: Bearer KEY\" and sees its "
       "tenant's adapters only. Read again on SIGHUP. See server/TENANTS.md.",
       Text(&C::tenants_file)},
      {"tls-cert", "FILE",
       "PEM certificate chain, the server's own first: all listeners then "
       "speak TLS 1.2 or 1.3 and nothing else. This and the next two are read "
       "again when they change. See server/SECURITY.md.",
       Text(&C::tls_cert)},
      {"tls-key", "FILE",
       "PEM key of --tls-cert, not encrypted; others than its owner and group "
       "must have no access.",
       Text(&C::tls_key)},
      {"tls-client-ca", "FILE",
       "PEM CAs: clients of --listen and --admin-listen may show a certificate "
       "of one of them, and spiffe-ids of --tenants say whose it is.",
       Text(&C::tls_client_ca)},
      {"tls-require-client-cert", "",
       "Clients of --listen and --admin-listen must show one.",
       Switch(&C::tls_require_client_cert)},
      {"audit-log", "FILE",
       "Append who changed what, and who was turned away, as JSON lines. See "
       "server/SECURITY.md. Opened anew on SIGHUP.",
       Text(&C::audit_log)},
      {"audit-log-size", "SIZE",
       "Beyond it FILE becomes FILE.1, that FILE.2, up to FILE.8; 0: never. "
       "Default 64MiB.",
       Bytes(&C::audit_log_size, 0)},
      {"audit-fail-closed", "",
       "Refuse what changes adapters, and operators' calls, while the audit "
       "log can't be written; what is done is on its disk before the answer.",
       Switch(&C::audit_fail_closed)},
      {"insecure-no-tls", "",
       "Allow --tenants without --tls-cert on an address that other machines "
       "reach, where API keys cross the network in clear: for a proxy or a "
       "mesh that encrypts.",
       Switch(&C::insecure_no_tls)},
      {"usage-log", "FILE",
       "One JSON line for each generation when it ends: tenant, adapter, "
       "tokens, times, outcome; no prompts, no answers. Opened anew on SIGHUP. "
       "Default: none. See server/USAGE.md.",
       Text(&C::usage_log)},
      {"usage-log-size", "SIZE",
       "Beyond it FILE of --usage-log becomes FILE.1, and so on; FILE.8 is the "
       "last. Default 64MiB.",
       Bytes(&C::usage_log_size, 1 << 16)},
      {"insecure-no-auth", "",
       "Allow --listen or --admin-listen on an address that other machines "
       "reach, although callers are not authenticated: without --tenants, or "
       "the operators' with them.",
       Switch(&C::insecure_no_auth)},
      {"reflection", "",
       "gRPC reflection also where --listen is not a loopback address. Not "
       "with --tenants.",
       Switch(&C::reflection)},
      {"weights", "TYPE",
       "Base weights in memory: bf16 (default), int8 with a scale for each "
       "output channel, or int4 with a scale for each group of 32 (the head 8 "
       "bits).",
       SetWeights},
      {"adapter-weights", "TYPE",
       "Adapters in memory: bf16 (default), or int8 with a scale for each row "
       "of A and each column of B: half the bytes, so twice as many fit into "
       "--adapter-memory and a step reads half. On the CPU only.",
       SetAdapterWeights},
      {"weights-cache", "DIR",
       "Where packed weights are kept for the next start, or none. A folder of "
       "the server's user alone; the 4 files used last stay. Default: descant "
       "in the user's cache directory.",
       Text(&C::weights_cache)},
      {"startup-self-test", "MODE",
       "auto, on or off. Before it serves, the server compares each kernel of "
       "the device, and each layer of the model on it, with the reference; "
       "where one differs it ends with exit code 70. auto: with "
       "--device=cuda, at a model's first start there (a file in "
       "--weights-cache says so to later ones). Default auto.",
       SetStartupSelfTest},
      {"hot-merge", "MODE",
       "auto or off. auto: an adapter that has steps for itself is merged into "
       "weights of its own, where that was measured to pay; its tokens then "
       "hold to a tolerance, not to the bit. bf16 weights only. Default off.",
       SetHotMerge},
      {"merge-memory", "SIZE",
       "Most memory of merged weights. Default: twice what an adapter on all "
       "modules takes, the weights of the model's layers in bf16.",
       Bytes(&C::merge_memory, 1 << 20)},
      {"max-model-len", "N",
       "Prompt and answer together, in tokens. Default: the model's.",
       Number(&C::max_model_len, 1, kMega)},
      {"token-budget", "N",
       "Most rows of one step: decodes and prefill chunks. Fewer: others' "
       "tokens wait less for a prefill. Default 128.",
       Number(&C::token_budget, 1, 65536)},
      {"target-itl-ms", "N",
       "How many milliseconds a step with decodes may take by the times of "
       "earlier ones: of a prompt it computes what fits, at least 16 tokens, "
       "for a tenant that runs less than its share up to twice as long; and "
       "sequences whose decodes would take more than half of it wait, but for "
       "such tenants. Shorter gaps between tokens, and sooner first tokens "
       "beside a heavy tenant. 0: all that --token-budget and --max-running "
       "allow. Default 0.",
       Number(&C::target_itl_ms, 0, 60000)},
      {"prefix-cache", "MODE",
       "on or off. Prompts that begin as an earlier one of the same tenant and "
       "adapter did are computed from there on. Takes no memory that others "
       "need. Default on.",
       SetPrefixCache},
      {"max-draft-tokens", "N",
       "Most tokens guessed ahead for a sequence in a step, from repetitions "
       "in "
       "its own text (at most 15; 0: none). Guesses are tried only where they "
       "pay, and change no token. Default 7.",
       Number(&C::max_draft_tokens, 0, kMaxDraftTokens)},
      {"max-running", "N", "Most sequences that run at once. Default 64.",
       Number(&C::max_running, 1, 4096)},
      {"max-waiting", "N",
       "Most requests that wait; beyond it the answer is UNAVAILABLE. "
       "Default 1024.",
       Number(&C::max_waiting, 1, kMega)},
      {"max-waiting-tokens", "N",
       "Most prompt tokens that wait, of all requests together; beyond it the "
       "answer is UNAVAILABLE. One request alone always may. Default 1048576.",
       Number(&C::max_waiting_tokens, 1, 1024 * kMega)},
      {"request-memory", "SIZE",
       "Most memory for requests that are not answered and for their answers, "
       "reckoned at the most they can grow to; beyond it the answer is "
       "UNAVAILABLE. One request gets half of it at most, one tenant three "
       "quarters. Default 512MiB.",
       Bytes(&C::request_memory, 1 << 20)},
      {"kv-memory", "SIZE", "KV cache, for instance 2GiB. Default: chosen.",
       Bytes(&C::kv_memory, 1 << 20)},
      {"adapter-memory", "SIZE",
       "Adapters on the device, for instance 512MiB. Default: chosen.",
       Bytes(&C::adapter_memory, 1 << 20)},
      {"host-adapter-memory", "SIZE",
       "Adapters kept in the host's memory, packed for the device, beside "
       "those on it; 0: none. Default 256MiB.",
       Bytes(&C::host_adapter_memory, 0)},
      {"max-adapters", "N",
       "Most adapters on the device at once; 0: none are served. Default 64.",
       Number(&C::max_adapters, 0, 65536)},
      {"max-adapters-per-step", "N",
       "Most distinct adapters that run at once; beyond it requests for others "
       "wait their turn. 0: as many as --max-adapters. Default 0.",
       Number(&C::max_adapters_per_step, 0, 65536)},
      {"max-adapter-rank", "N", "Highest rank an upload may have. Default 512.",
       Number(&C::max_adapter_rank, 1, 512)},
      {"adapter-dir", "PATH",
       "Where uploads are kept. Default: descant/adapters in the user's "
       "state directory.",
       Text(&C::adapter_dir)},
      {"adapters-manifest", "FILE",
       "YAML file of adapters that are to be there, pinned or not; read at the "
       "start and on SIGHUP. See server/MANIFEST.md.",
       Text(&C::adapters_manifest)},
      {"adapter-versions", "N",
       "Versions kept of each adapter: the current one and those before it. "
       "Default 4.",
       Number(&C::adapter_versions, 1, 1000)},
      {"max-stored-adapters", "N",
       "Most adapters kept; beyond it uploads are refused. Default 100000.",
       Number(&C::max_stored_adapters, 1, 100 * kMega)},
      {"max-stored-size", "SIZE",
       "Most bytes of all versions together, uploads under way included. "
       "Default: what the disk has.",
       Bytes(&C::max_stored_size, 1024)},
      {"tenant-stored-adapters", "N",
       "Most adapters of one tenant. Default: no limit of its own.",
       Number(&C::tenant_stored_adapters, 1, 100 * kMega)},
      {"tenant-stored-size", "SIZE",
       "Most bytes of one tenant's versions and uploads. Default: no limit of "
       "its own.",
       Bytes(&C::tenant_stored_size, 1024)},
      {"scrub-interval", "TIME",
       "How often all stored adapters are read and compared with their "
       "digests, beside the traffic. Default 24h.",
       Time(&C::scrub_interval)},
      {"max-upload-size", "SIZE",
       "Largest tensors file of an upload. Default 1GiB.",
       Bytes(&C::max_upload_size, 1024)},
      {"request-timeout", "TIME",
       "Deadline of requests that have none, and the latest for all. "
       "Default 10m.",
       Time(&C::request_timeout)},
      {"stream-stall-timeout", "TIME",
       "A stream whose reader takes nothing for so long is ended. Default "
       "30s.",
       Time(&C::stream_stall_timeout)},
      {"upload-idle-timeout", "TIME",
       "An upload that sends nothing for so long is ended. Default 30s.",
       Time(&C::upload_idle_timeout)},
      {"drain-timeout", "TIME",
       "After SIGTERM: how long accepted requests may take. Default 30s.",
       Time(&C::drain_timeout)},
      {"keepalive-time", "TIME",
       "A connection that was silent for so long is asked whether its client "
       "still lives. Default 60s.",
       Time(&C::keepalive_time)},
      {"keepalive-timeout", "TIME",
       "A client that does not answer this for so long is gone: its calls are "
       "cancelled. Default 20s.",
       Time(&C::keepalive_timeout)},
      {"max-connections", "N",
       "Most connections to --listen at a time; one more is closed at once. "
       "Default 4096, or what the limit on open files leaves.",
       Number(&C::max_connections, 1, kMega)},
      {"max-connection-age", "TIME",
       "After so long, give or take a tenth, clients are told to connect anew "
       "(so that a balancer spreads them again); calls under way have "
       "--request-timeout to end. Default 1h.",
       Time(&C::max_connection_age)},
      {"engine-stall-limit", "TIME",
       "An engine that has work and makes no progress for so long, and for 10 "
       "times its longest step, hangs: it is not alive, and who waits for it "
       "is answered UNAVAILABLE. Default 30s.",
       Time(&C::engine_stall_limit)},
  };
  return *options;
}

}  // namespace descant
