// The real descant-server in a child process, for end-to-end tests.
#ifndef DESCANT_TESTS_E2E_SERVER_PROCESS_H_
#define DESCANT_TESTS_E2E_SERVER_PROCESS_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "descant/v1/adapter.grpc.pb.h"
#include "descant/v1/admin.grpc.pb.h"
#include "descant/v1/generation.grpc.pb.h"
#include "runtime/base/clock.h"
#include "server/cli/child_process.h"

namespace descant::e2e {

// A folder under $TMPDIR, removed with its contents at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Path of the demo model: the one .gguf file of DESCANT_DEPS_DIR/models.
std::string DemoModelPath();

// DESCANT_BIN_DIR/<name>.
std::string BinaryPath(const std::string& name);

// A path below the checkout, from DESCANT_SOURCE_DIR.
std::string SourcePath(const std::string& path);

struct ServerOptions {
  std::string model = DemoModelPath();
  // Empty: one of the process's own, gone with it.
  std::string adapter_dir;
  // After ours and those of DESCANT_SERVER_FLAGS ("--device=cuda"), so they
  // win.
  std::vector<std::string> flags;
  std::vector<std::string> environment;  // "K=V"
};

// Owns the process; one that still runs at the end is killed. Listens on free
// loopback ports. Thread-safe but for Start, Terminate, Kill and Wait.
class ServerProcess {
 public:
  // Starts the server and waits until grpc.health.v1 says SERVING. The message
  // of an error ends with the server's log.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(
      const ServerOptions& options);

  // Starts it and waits for nothing: for servers that are to fail.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Launch(
      const ServerOptions& options);

  const std::string& target() const { return target_; }
  const std::string& admin_target() const { return admin_target_; }
  int metrics_port() const { return metrics_port_; }
  pid_t pid() const { return child_.pid(); }

  v1::GenerationService::Stub& generation() { return *generation_; }
  v1::AdapterService::Stub& adapters() { return *adapters_; }
  v1::AdminService::Stub& admin() { return *admin_; }
  std::shared_ptr<grpc::Channel> channel() { return channel_; }

  // Whether the health service says SERVING now.
  bool Healthy();

  // SIGTERM; then the exit code, or -1 when it still runs after `timeout`.
  int Terminate(Duration timeout = std::chrono::seconds(60));
  // SIGTERM, and no waiting.
  void SendTerminate();
  // SIGKILL.
  void Kill();
  // The exit code, or -1 when it still runs after `timeout`.
  int Wait(Duration timeout);

  // What it wrote on standard output and standard error so far.
  std::string Log() const;

 private:
  explicit ServerProcess(cli::ChildProcess child) : child_(std::move(child)) {}

  std::unique_ptr<TemporaryFolder> folder_;
  cli::ChildProcess child_;
  std::string target_;
  std::string admin_target_;
  int metrics_port_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::AdapterService::Stub> adapters_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_SERVER_PROCESS_H_
