#include "server/app.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/health_check_service_interface.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/connection_watch.h"
#include "server/errors.h"
#include "server/limits.h"
#include "server/version.h"

namespace descant {
namespace {

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

// A start reads more than it keeps: of the model, of the store's journal; so
// does the transport under a flood. The C library would keep those pages for
// later allocations. Little is not worth the locks.
void ReturnFreeMemory() {
#ifdef __GLIBC__
  constexpr size_t kWorthIt = size_t{32} << 20;
  if (::mallinfo2().fordblks > kWorthIt) ::malloc_trim(0);
#endif
}

// The templates, and the special tokens as they know them.
ChatTemplateText TemplateText(const Model& model, const Tokenizer& tokenizer) {
  ChatTemplateText text;
  text.main = model.chat_template;
  text.tool_use = model.tool_use_template;
  const std::pair<const char*, std::optional<int32_t>> tokens[] = {
      {"bos_token", tokenizer.bos_id()},
      {"eos_token", tokenizer.eos_id()},
      {"pad_token", tokenizer.pad_id()},
      {"unk_token", tokenizer.unk_id()}};
  for (const auto& [name, id] : tokens) {
    if (id.has_value()) {
      text.special_tokens.emplace_back(name, tokenizer.TokenText(*id));
    }
  }
  return text;
}

StoreOptions StoreOptionsOf(const ServerConfig& config,
                            const std::string& model_name) {
  StoreOptions options;
  options.directory = config.adapter_dir;
  options.model_name = model_name;
  options.limits.max_rank = config.max_adapter_rank;
  options.limits.max_file_bytes = config.max_upload_size;
  options.max_versions = config.adapter_versions;
  options.total.max_adapters = config.max_stored_adapters;
  options.total.max_bytes = config.max_stored_size;
  options.total.max_uploads = limits::kMaxOpenUploads;
  options.total.max_staged_bytes =
      limits::kMaxStagedFiles * config.max_upload_size;
  options.per_tenant.max_uploads = limits::kMaxOpenUploadsPerTenant;
  options.per_tenant.max_staged_bytes =
      limits::kMaxStagedFilesPerTenant * config.max_upload_size;
  options.per_tenant.max_adapters = config.tenant_stored_adapters;
  options.per_tenant.max_bytes = config.tenant_stored_size;
  return options;
}

Duration StallLimit(Duration floor, double longest_step_seconds) {
  const auto many =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
          limits::kStallSteps * longest_step_seconds));
  return std::max(floor, std::min(many, limits::kMaxStallLimit));
}

// What those who watch are told of a change.
AdapterChange ChangeOf(RegistryChange change, const AdapterInfo& info) {
  AdapterChange news{AdapterChange::kChanged, info.tenant, info.name,
                     info.digest};
  if (change == RegistryChange::kPublished) {
    news.kind = AdapterChange::kPublished;
  } else if (change == RegistryChange::kDeleted) {
    news.kind = AdapterChange::kDeleted;
  }
  return news;
}

}  // namespace

absl::StatusOr<std::unique_ptr<App>> App::Start(const ServerConfig& config,
                                                Backend backend) {
  std::unique_ptr<App> app(new App);
  DESCANT_RETURN_IF_ERROR(app->OpenAudit(config));
  DESCANT_RETURN_IF_ERROR(app->OpenLogs(config));
  DESCANT_RETURN_IF_ERROR(app->OpenStore(config, backend));
  DESCANT_RETURN_IF_ERROR(app->StartEngine(config, &backend));
  app->FillEdge(config, backend);
  app->MakeMetrics(config, backend);
  app->MakeParts();
  absl::Status status;
  if (app->manifest_ != nullptr) {
    status = app->manifest_->Reconcile();
    if (!status.ok()) {
      status = absl::Status(status.code(), absl::StrCat("--adapters-manifest: ",
                                                        status.message()));
    }
  }
  if (status.ok()) status = app->Listen(config);
  if (!status.ok()) {
    app->Drain(app->clock_.Now());
    return status;
  }
  ReturnFreeMemory();
  app->SetReady(true);
  app->Audit({.event = "start"});
  return app;
}

absl::Status App::OpenLogs(const ServerConfig& config) {
  if (config.usage_log.empty()) return absl::OkStatus();
  JsonLinesLogOptions options;
  options.path = config.usage_log;
  options.max_file_bytes = config.usage_log_size;
  auto log = JsonLinesLog::Open(std::move(options));
  if (!log.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--usage-log: ", log.status().message()));
  }
  usage_log_ = *std::move(log);
  edge_.usage_log = usage_log_.get();
  return absl::OkStatus();
}

absl::Status App::OpenStore(const ServerConfig& config,
                            const Backend& backend) {
  std::error_code error;
  std::filesystem::create_directories(config.adapter_dir, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("--adapter-dir: cannot make ", config.adapter_dir, ": ",
                     error.message()));
  }
  registry_.SetListener(
      [this](RegistryChange change, const RegistryEntry& entry) {
        feed_.Publish(ChangeOf(change, entry.info));
        if (change == RegistryChange::kStateChanged &&
            entry.state == AdapterState::kCorrupt) {
          Audit({.event = "quarantine",
                 .code = absl::StatusCode::kDataLoss,
                 .name = AdapterLabel(entry.info.tenant, entry.info.name),
                 .digest = entry.info.digest});
        }
      });
  // Shares the model, whose part the shape is.
  std::shared_ptr<const BaseShape> base(backend.model,
                                        &backend.model->base_shape);
  auto store = AdapterStore::Open(&fs_, &clock_,
                                  StoreOptionsOf(config, backend.model->name),
                                  base, &registry_);
  if (!store.ok()) {
    return absl::Status(
        store.status().code(),
        absl::StrCat("--adapter-dir: ", store.status().message()));
  }
  store_ = *std::move(store);
  scrubber_ = std::make_unique<StoreScrubber>(
      store_.get(), &clock_,
      ScrubberOptions{limits::kScrubBytesPerSecond, config.scrub_interval});
  const RecoveryReport& report = store_->recovery();
  for (const std::string& message : report.messages) LogWarning(message);
  LogInfo("adapters in ", config.adapter_dir, ": ", report.ready, " ready, ",
          report.incompatible, " for another base model, ", report.corrupt,
          " damaged");
  return absl::OkStatus();
}

absl::Status App::StartEngine(const ServerConfig& config, Backend* backend) {
  EngineOptions options;
  options.max_model_len = backend->max_model_len;
  options.max_waiting_requests = config.max_waiting;
  options.max_waiting_tokens = config.max_waiting_tokens;
  options.prefix_cache = config.prefix_cache;
  options.max_adapters_per_step = config.max_adapters_per_step;
  options.target_itl = std::chrono::milliseconds(config.target_itl_ms);
  stall_limit_ = config.engine_stall_limit;
  options.max_draft_tokens = config.max_draft_tokens;
  options.max_running_sequences = backend->runner->limits().max_sequences;
  options.host_adapter_bytes = config.host_adapter_memory;
  options.hot_merge = config.hot_merge;
  options.merge_memory = config.merge_memory;
  options.on_residency = [this](const ResidentAdapter& adapter) {
    feed_.Publish({AdapterChange::kChanged, adapter.tenant, adapter.name,
                   adapter.digest});
  };
  options.on_adapter_load = [this](AdapterLevel level, Duration took) {
    metrics_->ObserveAdapterLoad(level, took);
  };
  edge_.options.max_running = options.max_running_sequences;
  edge_.options.adapter_slots = backend->runner->limits().max_slots;
  edge_.facts.device = backend->runner->Describe();
  DESCANT_ASSIGN_OR_RETURN(
      engine_, Engine::Create(std::move(backend->runner), backend->tokenizer,
                              backend->model->eos_token_ids, options, &clock_));
  return absl::OkStatus();
}

void App::FillEdge(const ServerConfig& config, const Backend& backend) {
  const Model& model = *backend.model;
  ModelFacts& facts = edge_.facts;
  facts.name = model.name;
  facts.architecture = model.config.architecture;
  facts.fingerprint = model.base_shape.fingerprint;
  facts.version = kServerVersion;
  facts.eos_token_ids = model.eos_token_ids;
  facts.target_modules = TargetModules(model.base_shape.modules);
  facts.linear_modules = model.base_shape.modules;

  EdgeOptions& options = edge_.options;
  options.model.vocab_size =
      std::min(model.config.vocab_size, backend.tokenizer->vocab_size());
  options.model.max_model_len = backend.max_model_len;
  options.model.eos_tokens = static_cast<int32_t>(model.eos_token_ids.size());
  options.model.max_prompt_bytes =
      MaxPromptBytes(*backend.tokenizer, backend.max_model_len);
  options.request_timeout = config.request_timeout;
  options.stream_stall_timeout = config.stream_stall_timeout;
  options.upload_idle_timeout = config.upload_idle_timeout;
  options.max_upload_bytes = config.max_upload_size;
  options.max_adapter_rank = config.max_adapter_rank;
  options.max_stored_adapters = config.max_stored_adapters;
  options.prefix_cache = config.prefix_cache;
  edge_.tokenizer = backend.tokenizer;
  auto chat = ChatTemplate::Parse(TemplateText(model, *backend.tokenizer));
  if (chat.ok()) {
    edge_.chat_template = *std::move(chat);
  } else if (!model.chat_template.empty()) {
    LogWarning("`messages` prompts are not served: ", chat.status().message());
  }
  if (config.tenants != nullptr) {
    tenants_ =
        std::make_unique<TenantsFile>(config.tenants_file, config.tenants);
    options.open_admin =
        config.insecure_no_auth || IsLoopbackAddress(config.admin_listen);
  }
  edge_.tenants = tenants_.get();
  options.client_certificates = !config.tls_client_ca.empty();
  if (config.tls != nullptr) {
    tls_ = std::make_unique<TlsCertificate>(
        TlsFiles{config.tls_cert, config.tls_key, config.tls_client_ca},
        config.tls, &clock_);
  }
  edge_.admission = &admission_;
  request_memory_ = std::make_unique<MemoryBudget>(config.request_memory);
  edge_.memory = request_memory_.get();
  edge_.audit = audit_.get();
  edge_.usage = &usage_;
  edge_.wait_estimate = &wait_estimate_;
  edge_.seed_state = RandomSeed();
}

void App::MakeParts() {
  egress_ = std::make_unique<Egress>(&clock_);
  front_pool_ =
      std::make_unique<FrontPool>(limits::kFrontThreads, limits::kFrontQueue);
  upload_pool_ =
      std::make_unique<FrontPool>(limits::kUploadThreads, limits::kUploadQueue);
  download_pool_ = std::make_unique<FrontPool>(limits::kDownloadThreads,
                                               limits::kDownloadQueue);
  maintenance_pool_ = std::make_unique<FrontPool>(limits::kMaintenanceThreads,
                                                  limits::kMaintenanceQueue);
  pins_ = std::make_unique<PinnedAdapters>(engine_.get(), &registry_);
  edge_.engine = engine_.get();
  edge_.registry = &registry_;
  edge_.store = store_.get();
  edge_.metrics = metrics_.get();
  edge_.front_pool = front_pool_.get();
  edge_.upload_pool = upload_pool_.get();
  edge_.download_pool = download_pool_.get();
  edge_.maintenance_pool = maintenance_pool_.get();
  edge_.egress = egress_.get();
  edge_.feed = &feed_;
  edge_.pins = pins_.get();
  edge_.clock = &clock_;
  edge_.upload_table = std::make_shared<UploadTable>(
      UploadTableOptions{}, &clock_, upload_pool_.get(),
      [this](absl::StatusCode code, Duration took) {
        metrics_->RecordUpload(absl::StatusCodeToString(code), 0, took);
      });
  egress_->Watch(edge_.upload_table);
}

void App::MakeMetrics(const ServerConfig& config, const Backend& backend) {
  const ModelFacts& facts = edge_.facts;
  MetricsOptions options;
  options.model_name = facts.name;
  options.version = facts.version;
  options.device = facts.device;
  options.base_fingerprint = facts.fingerprint;
  options.max_model_len = backend.max_model_len;
  options.max_adapter_series = limits::kMaxAdapterSeries;
  LifecycleSources sources;
  if (tenants_ != nullptr) {
    sources.tenants_stale = [this] { return tenants_->stale(); };
  }
  sources.request_memory = [this] { return request_memory_->held(); };
  sources.request_memory_capacity = request_memory_->capacity();
  sources.refused_connections = [this] {
    return acceptor_.refused() + admin_acceptor_.refused();
  };
  sources.flooding_connections = &FloodingConnections;
  if (audit_ != nullptr) {
    sources.security.audit = [this] { return audit_->counts(); };
  }
  if (tls_ != nullptr) {
    sources.security.tls = [this] { return tls_->Stats(); };
  }
  sources.usage.tenants = [this] {
    std::vector<std::pair<std::string, TenantCounts>> counts;
    if (tenants_ == nullptr) {
      counts.emplace_back("", usage_.CountsOf(""));
      return counts;
    }
    for (const auto& tenant : tenants_->current()->tenants()) {
      counts.emplace_back(tenant->id, usage_.CountsOf(tenant->id));
    }
    return counts;
  };
  if (usage_log_ != nullptr) {
    sources.usage.log = [this] { return usage_log_->counts(); };
  }
  sources.engine = [this] { return engine_->Stats(); };
  sources.store = [this] { return store_->Stats(); };
  sources.residents = [this] { return engine_->ResidentAdapters(); };
  if (!config.adapters_manifest.empty()) {
    manifest_ =
        std::make_unique<ManifestReconciler>(&edge_, config.adapters_manifest);
    sources.manifest = [this] { return manifest_->report(); };
  }
  metrics_ = std::make_shared<Metrics>(options, std::move(sources), &clock_);
}

// A request that named a version before it was deleted may load it after.
void App::UnloadForgotten() {
  for (const ResidentAdapter& resident : engine_->ResidentAdapters()) {
    if (store_->Keeps(resident.tenant, resident.digest)) continue;
    auto forgotten = std::make_shared<Adapter>();
    forgotten->tenant = resident.tenant;
    forgotten->name = resident.name;
    forgotten->digest = resident.digest;
    engine_->Manage(AdapterAction::kUnload, std::move(forgotten),
                    [](const AdapterActionResult&) {});
  }
}

void App::KeepHouse() {
  if (tls_ != nullptr) tls_->Watch();
  if (audit_ != nullptr) audit_->Tick();
  CheckLiveness();
  pins_->Follow();
  UnloadForgotten();
  // Not while the calls of a second before wait still.
  if (maintenance_pool_->queued() > 0) return;
  maintenance_pool_->TryPost([this] {
    ReturnFreeMemory();
    store_->CollectGarbage();
    scrubber_->Tick();
  });
}

void App::Reload() {
  if (tls_ != nullptr) tls_->Reload().IgnoreError();
  if (audit_ != nullptr) audit_->Reopen();
  if (tenants_ != nullptr) ReloadTenants();
  if (usage_log_ != nullptr) usage_log_->Reopen();
  if (manifest_ == nullptr) return;
  const bool posted = maintenance_pool_->TryPost([this] {
    if (const absl::Status status = manifest_->Reconcile(); !status.ok()) {
      LogError("manifest: not read again: ", LogSafe(status.message()));
    }
  });
  if (!posted) LogError("manifest: not read again: the server is too busy");
}

// Idle is healthy, and busy is: what hangs is a step that takes much longer
// than any did before.
void App::CheckLiveness() {
  const EngineStats stats = engine_->Stats();
  if (!stats.device_failure.empty() && !device_failed_) {
    device_failed_ = true;
    LogError("the device failed, and computes nothing any more: ",
             LogSafe(stats.device_failure));
    SetReady(false);
  }
  const Duration limit = StallLimit(stall_limit_, stats.longest_step_seconds);
  const Duration still = clock_.Now() - engine_->LastProgress();
  const bool alive = still <= limit;
  if (alive != alive_) {
    alive_ = alive;
    if (alive) {
      LogWarning("the engine makes progress again");
    } else {
      LogError("the engine hangs: no progress for ", ToSeconds(still),
               " s with work to do; ", stats.running, " sequences running, ",
               stats.waiting, " waiting, ", stats.blocks_used, " of ",
               stats.blocks_total, " blocks used, ", stats.steps,
               " steps done, the longest took ", stats.longest_step_seconds,
               " s");
    }
    SetReady(alive);
  }
  if (alive) return;
  const int32_t failed = engine_->FailInFlight(
      ReasonedError(absl::StatusCode::kUnavailable, reason::kEngineStalled,
                    "the model makes no progress"));
  if (failed > 0) LogWarning(failed, " requests were answered UNAVAILABLE");
}

void App::Drain(MonotonicTime deadline) {
  if (ready_) Audit({.event = "drain"});
  SetReady(false);
  edge_.draining = true;
  if (edge_.upload_table != nullptr) edge_.upload_table->Close();
  constexpr Duration kPoll = std::chrono::milliseconds(20);
  while (edge_.active_calls.load() > 0 && clock_.Now() < deadline) {
    std::this_thread::sleep_for(kPoll);
  }
  // Generations that are left are past the deadline, and told so.
  if (engine_ != nullptr) engine_->Stop(clock_.Now());
  // Then everything is cancelled, a client's health watch too. The grace is for
  // statuses and answers on their way.
  const auto grace =
      std::chrono::system_clock::now() + std::chrono::milliseconds(200);
  acceptor_.Stop();
  admin_acceptor_.Stop();
  if (server_ != nullptr) server_->Shutdown(grace);
  if (admin_server_ != nullptr) admin_server_->Shutdown(grace);
  metrics_listener_.reset();
  // Every request has ended now.
  if (usage_log_ == nullptr) return;
  if (const absl::Status status = usage_log_->Flush(); !status.ok()) {
    LogError("--usage-log: its last lines are lost: ", status.message());
  }
}

App::~App() {
  // Calls hold on to the edge until gRPC is done with them.
  server_.reset();
  admin_server_.reset();
  metrics_listener_.reset();
  front_pool_.reset();
  upload_pool_.reset();
  maintenance_pool_.reset();
  download_pool_.reset();
  egress_.reset();
}

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kOutOfRange:
      return 78;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      return 75;
    default:
      return 70;
  }
}

}  // namespace descant
