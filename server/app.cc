#include "server/app.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/health_check_service_interface.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/version.h"

namespace descant {
namespace {

// An engine without progress for so long while it has work is stuck: longer
// than any step may take.
constexpr Duration kStallLimit = std::chrono::seconds(30);

constexpr const char* kReadinessNames[] = {"", "readiness",
                                           "descant.v1.GenerationService",
                                           "descant.v1.AdapterService"};

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
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

}  // namespace

absl::StatusOr<std::unique_ptr<App>> App::Start(const ServerConfig& config,
                                                Backend backend) {
  std::unique_ptr<App> app(new App);
  DESCANT_RETURN_IF_ERROR(app->OpenStore(config, backend));
  DESCANT_RETURN_IF_ERROR(app->StartEngine(config, &backend));
  app->FillEdge(config, backend);
  const absl::Status status = app->Listen(config);
  if (!status.ok()) {
    app->Drain(app->clock_.Now());
    return status;
  }
  app->SetReady(true);
  return app;
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
  StoreOptions options;
  options.directory = config.adapter_dir;
  options.model_name = backend.model->name;
  options.limits.max_rank = config.max_adapter_rank;
  options.limits.max_file_bytes = config.max_upload_size;
  options.total.max_adapters = config.max_stored_adapters;
  // Shares the model, whose part the shape is.
  std::shared_ptr<const BaseShape> base(backend.model,
                                        &backend.model->base_shape);
  auto store = AdapterStore::Open(&fs_, &clock_, options, base, &registry_);
  if (!store.ok()) {
    return absl::Status(
        store.status().code(),
        absl::StrCat("--adapter-dir: ", store.status().message()));
  }
  store_ = *std::move(store);
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
  options.max_running_sequences = backend->runner->limits().max_sequences;
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

  MetricsOptions metrics;
  metrics.model_name = facts.name;
  metrics.version = facts.version;
  metrics.device = facts.device;
  metrics.base_fingerprint = facts.fingerprint;
  metrics.max_model_len = backend.max_model_len;
  metrics.max_adapter_series = limits::kMaxAdapterSeries;
  metrics_ = std::make_shared<Metrics>(
      metrics, [this] { return engine_->Stats(); },
      [this] { return static_cast<uint64_t>(registry_.TotalUsage().adapters); },
      &clock_);
  egress_ = std::make_unique<Egress>(&clock_);
  front_pool_ =
      std::make_unique<FrontPool>(limits::kFrontThreads, limits::kFrontQueue);
  upload_pool_ =
      std::make_unique<FrontPool>(limits::kUploadThreads, limits::kUploadQueue);
  download_pool_ = std::make_unique<FrontPool>(limits::kDownloadThreads,
                                               limits::kDownloadQueue);
  edge_.engine = engine_.get();
  edge_.tokenizer = backend.tokenizer;
  auto chat = ChatTemplate::Parse(TemplateText(model, *backend.tokenizer));
  if (chat.ok()) {
    edge_.chat_template = *std::move(chat);
  } else if (!model.chat_template.empty()) {
    LogWarning("`messages` prompts are not served: ", chat.status().message());
  }
  edge_.registry = &registry_;
  edge_.store = store_.get();
  edge_.metrics = metrics_.get();
  edge_.front_pool = front_pool_.get();
  edge_.upload_pool = upload_pool_.get();
  edge_.download_pool = download_pool_.get();
  edge_.egress = egress_.get();
  edge_.clock = &clock_;
  edge_.upload_table = std::make_shared<UploadTable>(
      UploadTableOptions{}, &clock_, upload_pool_.get(),
      [this](absl::StatusCode code, Duration took) {
        metrics_->RecordUpload(absl::StatusCodeToString(code), 0, took);
      });
  egress_->Watch(edge_.upload_table);
  edge_.tenants = config.tenants;
  edge_.seed_state = RandomSeed();
}

absl::Status App::Listen(const ServerConfig& config) {
  EnableHealthService();
  if (config.tenants != nullptr && !IsLoopbackAddress(config.listen)) {
    LogWarning("--listen: API keys and prompts cross the network in clear; ",
               "put a proxy that speaks TLS in front");
  }
  const auto reflects = [&config](const std::string& address) {
    return config.reflection || IsLoopbackAddress(address);
  };
  generation_ = std::make_unique<GenerationService>(&edge_);
  adapters_ = std::make_unique<AdapterService>(&edge_);
  DESCANT_ASSIGN_OR_RETURN(
      server_,
      StartListener("--listen", config.listen,
                    {generation_.get(), adapters_.get()},
                    // Without a key only health answers.
                    config.tenants == nullptr && reflects(config.listen)));
  if (config.admin_listen != "none") {
    admin_ = std::make_unique<AdminService>(&edge_);
    DESCANT_ASSIGN_OR_RETURN(
        admin_server_,
        StartListener("--admin-listen", config.admin_listen, {admin_.get()},
                      reflects(config.admin_listen)));
  }
  if (config.metrics_listen != "none") {
    // The exposer reports by exception; it ends here.
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(config.metrics_listen);
      exposer_->RegisterCollectable(metrics_);
    } catch (const std::exception&) {
      return absl::FailedPreconditionError(
          absl::StrCat("--metrics-listen: cannot listen on ",
                       config.metrics_listen, "; is the port taken?"));
    }
  }
  return absl::OkStatus();
}

void App::SetReady(bool ready) {
  grpc::HealthCheckServiceInterface* health =
      server_ != nullptr ? server_->GetHealthCheckService() : nullptr;
  if (health == nullptr) return;
  for (const char* name : kReadinessNames) {
    health->SetServingStatus(name, ready);
  }
  health->SetServingStatus("liveness", alive_);
  if (admin_server_ == nullptr) return;
  health = admin_server_->GetHealthCheckService();
  health->SetServingStatus("", ready);
  health->SetServingStatus("descant.v1.AdminService", ready);
}

void App::CheckLiveness() {
  const EngineStats stats = engine_->Stats();
  const bool has_work = stats.running + stats.waiting > 0;
  const bool alive =
      !has_work || clock_.Now() - engine_->LastProgress() <= kStallLimit;
  if (alive == alive_) return;
  alive_ = alive;
  LogWarning(alive ? "the engine makes progress again"
                   : "the engine has work and makes no progress");
  server_->GetHealthCheckService()->SetServingStatus("liveness", alive);
}

void App::Drain(MonotonicTime deadline) {
  SetReady(false);
  edge_.draining = true;
  if (edge_.upload_table != nullptr) edge_.upload_table->Close();
  constexpr Duration kPoll = std::chrono::milliseconds(20);
  while (edge_.active_calls.load() > 0 && clock_.Now() < deadline) {
    std::this_thread::sleep_for(kPoll);
  }
  // What is left now is past the deadline, or a client's health watch: both
  // are cancelled. The second's grace is for answers on their way.
  const auto grace =
      std::chrono::system_clock::now() + std::chrono::milliseconds(200);
  if (server_ != nullptr) server_->Shutdown(grace);
  if (admin_server_ != nullptr) admin_server_->Shutdown(grace);
  exposer_.reset();
  if (engine_ != nullptr) engine_->Stop(clock_.Now());
}

App::~App() {
  // Calls hold on to the edge until gRPC is done with them.
  server_.reset();
  admin_server_.reset();
  exposer_.reset();
  front_pool_.reset();
  upload_pool_.reset();
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
