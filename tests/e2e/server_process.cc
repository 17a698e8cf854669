#include "tests/e2e/server_process.h"

#include <grpcpp/generic/generic_stub.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace descant::e2e {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(120);
constexpr auto kPollInterval = std::chrono::milliseconds(50);
constexpr auto kHealthDeadline = std::chrono::seconds(1);
constexpr int kMaxMessageBytes = 64 << 20;

std::string Environment(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

// grpc.health.v1.Health/Check of the whole server. An empty message asks for
// it; SERVING is field 1 = 1. So this needs no copy of the service's proto.
bool CheckHealth(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kHealthDeadline);
  // A connection gets on only while a call waits for it.
  context.set_wait_for_ready(true);
  grpc::CompletionQueue queue;
  grpc::Slice nothing;
  const grpc::ByteBuffer request(&nothing, 1);
  grpc::ByteBuffer response;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                    request, &queue);
  call->StartCall();
  call->Finish(&response, &status, &call);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  grpc::Slice bytes;
  return status.ok() && response.DumpToSingleSlice(&bytes).ok() &&
         std::string(bytes.begin(), bytes.end()) == "\x08\x01";
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "descant-e2e-XXXXXX").string();
  DESCANT_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string DemoModelPath() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(
           Environment("DESCANT_DEPS_DIR") + "/models", error)) {
    if (entry.path().extension() == ".gguf") return entry.path().string();
  }
  return "";
}

std::string BinaryPath(const std::string& name) {
  return Environment("DESCANT_BIN_DIR") + "/" + name;
}

std::string SourcePath(const std::string& path) {
  return Environment("DESCANT_SOURCE_DIR") + "/" + path;
}

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Launch(
    const ServerOptions& options) {
  DESCANT_ASSIGN_OR_RETURN(const std::vector<int> ports,
                           cli::FreeLoopbackPorts(3));
  auto folder = std::make_unique<TemporaryFolder>();
  const std::string adapter_dir = options.adapter_dir.empty()
                                      ? folder->path() + "/adapters"
                                      : options.adapter_dir;
  const auto address = [](int port) {
    return absl::StrCat("127.0.0.1:", port);
  };
  std::vector<std::string> argv = {
      BinaryPath("descant-server"),
      "--model=" + options.model,
      "--listen=" + address(ports[0]),
      "--admin-listen=" + address(ports[1]),
      "--metrics-listen=" + address(ports[2]),
      "--adapter-dir=" + adapter_dir,
  };
  // No test writes into the user's cache.
  const auto of_cache = [](const std::string& flag) {
    return absl::StartsWith(flag, "--weights-cache");
  };
  if (!absl::c_any_of(options.flags, of_cache)) {
    argv.push_back("--weights-cache=none");
  }
  const std::vector<std::string> more = absl::StrSplit(
      Environment("DESCANT_SERVER_FLAGS"), ' ', absl::SkipEmpty());
  argv.insert(argv.end(), more.begin(), more.end());
  argv.insert(argv.end(), options.flags.begin(), options.flags.end());
  DESCANT_ASSIGN_OR_RETURN(
      cli::ChildProcess child,
      cli::ChildProcess::Start(argv, options.environment,
                               folder->path() + "/server.log"));
  std::unique_ptr<ServerProcess> server(new ServerProcess(std::move(child)));
  server->folder_ = std::move(folder);
  server->target_ = address(ports[0]);
  server->admin_target_ = address(ports[1]);
  server->metrics_port_ = ports[2];
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // Tests start a server a moment after they made the channel.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  server->channel_ = grpc::CreateCustomChannel(
      server->target_, grpc::InsecureChannelCredentials(), arguments);
  server->generation_ = v1::GenerationService::NewStub(server->channel_);
  server->adapters_ = v1::AdapterService::NewStub(server->channel_);
  server->admin_ = v1::AdminService::NewStub(grpc::CreateCustomChannel(
      server->admin_target_, grpc::InsecureChannelCredentials(), arguments));
  return server;
}

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(
    const ServerOptions& options) {
  DESCANT_ASSIGN_OR_RETURN(std::unique_ptr<ServerProcess> server,
                           Launch(options));
  const MonotonicTime end = std::chrono::steady_clock::now() + kStartTimeout;
  while (!server->Healthy()) {
    const std::optional<int> exit_code = server->child_.Poll();
    if (exit_code.has_value()) {
      return absl::InternalError(
          absl::StrCat("server ended with ", *exit_code, ":\n", server->Log()));
    }
    if (std::chrono::steady_clock::now() > end) {
      return absl::DeadlineExceededError(
          absl::StrCat("server not ready:\n", server->Log()));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  return server;
}

bool ServerProcess::Healthy() { return CheckHealth(channel_); }

int ServerProcess::Terminate(Duration timeout) {
  SendTerminate();
  return Wait(timeout);
}

void ServerProcess::SendTerminate() { child_.Signal(SIGTERM); }

void ServerProcess::Kill() { child_.Signal(SIGKILL); }

int ServerProcess::Wait(Duration timeout) {
  return child_.Wait(timeout).value_or(-1);
}

std::string ServerProcess::Log() const {
  std::ifstream file(folder_->path() + "/server.log");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace descant::e2e
