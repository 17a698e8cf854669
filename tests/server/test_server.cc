#include "tests/server/test_server.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/identity.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/create_channel.h"
#include "runtime/base/check.h"

namespace descant {
namespace {

constexpr size_t kChunk = 4096;

std::string TinyModelPath() {
  const char* root = std::getenv("DESCANT_SOURCE_DIR");
  return absl::StrCat(root == nullptr ? "." : root,
                      "/tests/golden/models/tiny-llama");
}

}  // namespace

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  DESCANT_CHECK(bind(fd, any, size) == 0);
  DESCANT_CHECK(getsockname(fd, any, &size) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

TestServer::TestServer(const TestServerOptions& options) {
  signal(SIGPIPE, SIG_IGN);  // as main does: clients close when they like
  std::string pattern =
      (std::filesystem::temp_directory_path() / "server-XXXXXX").string();
  folder_ = mkdtemp(pattern.data());
  config_.model = TinyModelPath();
  config_.listen = absl::StrCat("127.0.0.1:", FreePort());
  config_.admin_listen = absl::StrCat("127.0.0.1:", FreePort());
  config_.metrics_listen = "none";
  config_.adapter_dir =
      options.adapter_dir.empty() ? folder_ + "/adapters" : options.adapter_dir;
  config_.max_stored_adapters = options.max_stored_adapters;
  config_.max_waiting = options.max_waiting;
  config_.max_waiting_tokens = options.max_waiting_tokens;
  config_.request_memory = options.request_memory;
  config_.request_timeout = options.request_timeout;
  config_.max_upload_size = 64 << 20;
  config_.stream_stall_timeout = options.stream_stall_timeout;
  config_.upload_idle_timeout = options.upload_idle_timeout;
  config_.engine_stall_limit = options.engine_stall_limit;
  config_.tenants = options.tenants;
  config_.tenants_file = options.tenants_file;
  if (options.configure) options.configure(&config_);
  credentials_ = options.credentials != nullptr
                     ? options.credentials
                     : grpc::InsecureChannelCredentials();
  config_.usage_log = options.usage_log;

  absl::StatusOr<LoadedModel> loaded = LoadModel(config_.model);
  DESCANT_CHECK(loaded.ok());
  model_ = loaded->model;
  FakeRunnerOptions fake;
  fake.limits = {.max_rows = 64,
                 .max_sequences = 16,
                 .max_outputs = 32,
                 .max_blocks_per_sequence =
                     (options.max_model_len + kBlockSize - 1) / kBlockSize,
                 .max_slots = 4};
  fake.num_blocks = 4 * fake.limits.max_blocks_per_sequence;
  fake.vocab_size = model_->config.vocab_size;
  fake.repeats = options.repeats;
  auto runner = std::make_unique<FakeRunner>(fake);
  runner->on_launch = options.on_step;
  runner->on_pack = options.on_pack;

  Backend backend;
  backend.model = loaded->model;
  backend.tokenizer = loaded->tokenizer;
  backend.runner = std::move(runner);
  backend.max_model_len = options.max_model_len;
  auto app = App::Start(config_, std::move(backend));
  if (!app.ok()) {
    std::fprintf(stderr, "%s\n", app.status().ToString().c_str());
  }
  DESCANT_CHECK(app.ok());
  app_ = *std::move(app);
  channel_ = NewChannel(0);
  generation_ = v1::GenerationService::NewStub(channel_);
  adapters_ = v1::AdapterService::NewStub(channel_);
  admin_ = v1::AdminService::NewStub(
      grpc::CreateChannel(config_.admin_listen, credentials_));
}

TestServer::~TestServer() {
  Drain(std::chrono::seconds(5));
  app_.reset();
  std::filesystem::remove_all(folder_);
}

void TestServer::AddKey(grpc::ClientContext* context) const {
  if (!key_.empty()) context->AddMetadata("authorization", "Bearer " + key_);
}

void TestServer::Drain(Duration grace) {
  if (drained_) return;
  drained_ = true;
  app_->Drain(std::chrono::steady_clock::now() + grace);
}

std::shared_ptr<grpc::Channel> TestServer::NewChannel(int window_bytes) const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (window_bytes > 0) {
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window_bytes);
  }
  return grpc::CreateCustomChannel(config_.listen, credentials_, arguments);
}

std::string UploadPlan::Bytes() const {
  std::string bytes;
  for (const v1::UploadAdapterRequest& message : messages) {
    bytes += message.chunk();
  }
  return bytes;
}

void UploadPlan::Rechunk(size_t chunk_bytes) {
  const std::string bytes = Bytes();
  messages.resize(1);
  for (size_t at = 0; at < bytes.size(); at += chunk_bytes) {
    messages.emplace_back().set_chunk(bytes.substr(at, chunk_bytes));
  }
}

size_t TestServer::StagedFiles() const {
  const std::filesystem::directory_iterator files(config_.adapter_dir +
                                                  "/staging");
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

UploadPlan TestServer::PlanUpload(const std::string& name, uint64_t seed,
                                  int32_t rank) const {
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : model_->base_shape.modules) {
    if (rank == 0 && !absl::EndsWith(module.path, "q_proj")) continue;
    modules.push_back({module.path, module.in, module.out});
  }
  RandomAdapterOptions options;
  options.seed = seed;
  if (rank != 0) options.rank = rank;
  const AdapterFiles files = MakeRandomAdapter(modules, options);
  const std::string& bytes = files.safetensors_bytes;

  UploadPlan plan;
  v1::UploadAdapterHeader* header =
      plan.messages.emplace_back().mutable_header();
  header->set_name(name);
  header->set_config_json(files.config_json);
  header->set_size_bytes(bytes.size());
  header->set_sha256(HexOf(Sha256Of(bytes)));
  for (size_t at = 0; at < bytes.size(); at += kChunk) {
    plan.messages.emplace_back().set_chunk(bytes.substr(at, kChunk));
  }
  return plan;
}

grpc::Status TestServer::Send(const UploadPlan& plan,
                              v1::UploadAdapterResponse* response) {
  grpc::ClientContext context;
  AddKey(&context);
  v1::UploadAdapterResponse unused;
  const auto writer = adapters_->UploadAdapter(
      &context, response == nullptr ? &unused : response);
  for (const v1::UploadAdapterRequest& message : plan.messages) {
    // Tiny messages share system calls.
    grpc::WriteOptions write;
    if (message.ByteSizeLong() < 16) write.set_buffer_hint();
    if (!writer->Write(message, write)) break;
  }
  writer->WritesDone();
  return writer->Finish();
}

std::vector<int32_t> TestServer::Tokens(const std::string& adapter, int count) {
  v1::GenerateRequest request;
  for (int i = 0; i < 20; ++i) request.mutable_token_ids()->add_ids(3 + i);
  if (!adapter.empty()) request.set_adapter_id(adapter);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(count);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  grpc::ClientContext context;
  AddKey(&context);
  v1::GenerateResponse response;
  const grpc::Status status =
      generation_->Generate(&context, request, &response);
  if (!status.ok()) {
    std::fprintf(stderr, "Tokens: %s\n", status.error_message().c_str());
    return {};
  }
  const auto& ids = response.choices(0).token_ids();
  return {ids.begin(), ids.end()};
}

std::string ReasonIn(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return "";
  for (const auto& any : rich.details()) {
    google::rpc::ErrorInfo info;
    if (any.UnpackTo(&info)) return info.reason();
  }
  return "";
}

bool HasRetryInfo(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return false;
  return std::any_of(rich.details().begin(), rich.details().end(),
                     [](const auto& any) {
                       return any.template Is<google::rpc::RetryInfo>();
                     });
}

}  // namespace descant
