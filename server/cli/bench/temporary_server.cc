#include "server/cli/bench/temporary_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "server/cli/connection.h"

namespace descant::cli {
namespace {

// A server that fails ends; a large model takes minutes from a cold disk.
constexpr auto kStartTimeout = std::chrono::minutes(15);
constexpr auto kStopTimeout = std::chrono::seconds(30);
constexpr auto kPollInterval = std::chrono::milliseconds(5);
constexpr size_t kLogTail = 2000;

std::string LogTail(const std::string& folder) {
  std::ifstream file(folder + "/server.log");
  std::ostringstream text;
  text << file.rdbuf();
  const std::string log = text.str();
  return log.size() <= kLogTail ? log : log.substr(log.size() - kLogTail);
}

// A channel would wait a second before its next attempt: sees first whether
// anything listens.
bool Listens(int port) {
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool listens =
      connect(socket_fd, reinterpret_cast<const sockaddr*>(&address),
              sizeof address) == 0;
  close(socket_fd);
  return listens;
}

bool Answers(const Connection& connection) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::GetModelResponse model;
  return connection.generation->GetModel(&context, {}, &model).ok();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TemporaryServer>> TemporaryServer::Start(
    const std::string& model, const std::vector<std::string>& flags) {
  std::error_code error;
  const std::filesystem::path self =
      std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::InternalError("can't tell where this program is");
  DESCANT_ASSIGN_OR_RETURN(const std::vector<int> ports, FreeLoopbackPorts(3));
  std::string folder =
      (std::filesystem::temp_directory_path() / "descant-bench-XXXXXX")
          .string();
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("can't make ", folder));
  }
  const auto address = [](int port) {
    return absl::StrCat("127.0.0.1:", port);
  };
  std::vector<std::string> argv = {
      (self.parent_path() / "descant-server").string(),
      absl::StrCat("--model=", model),
      absl::StrCat("--listen=", address(ports[0])),
      absl::StrCat("--admin-listen=", address(ports[1])),
      absl::StrCat("--metrics-listen=", address(ports[2])),
      absl::StrCat("--adapter-dir=", folder, "/adapters")};
  argv.insert(argv.end(), flags.begin(), flags.end());
  const MonotonicTime start = std::chrono::steady_clock::now();
  absl::StatusOr<ChildProcess> child =
      ChildProcess::Start(argv, {}, folder + "/server.log");
  if (!child.ok()) {
    std::filesystem::remove_all(folder, error);
    return child.status();
  }
  std::unique_ptr<TemporaryServer> server(
      new TemporaryServer(folder, address(ports[0]), *std::move(child)));
  const MonotonicTime end = start + kStartTimeout;
  const Connection connection = Connect(server->target_);
  while (!Listens(ports[0]) || !Answers(connection)) {
    const std::optional<int> exit_code = server->child_.Poll();
    if (exit_code.has_value() || std::chrono::steady_clock::now() > end) {
      return absl::InternalError(absl::StrCat(
          "descant-server ",
          exit_code ? absl::StrCat("ended with ", *exit_code) : "is not ready",
          ": ", LogTail(folder)));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  server->ready_seconds_ = ToSeconds(std::chrono::steady_clock::now() - start);
  return server;
}

std::optional<uint64_t> TemporaryServer::AnonymousBytes() const {
  std::ifstream file(absl::StrCat("/proc/", child_.pid(), "/status"));
  for (std::string line; std::getline(file, line);) {
    uint64_t kib = 0;
    if (std::sscanf(line.c_str(), "RssAnon: %" SCNu64 " kB", &kib) == 1) {
      return kib << 10;
    }
  }
  return std::nullopt;
}

TemporaryServer::~TemporaryServer() {
  child_.Signal(SIGTERM);
  if (!child_.Wait(kStopTimeout).has_value()) {
    child_.Signal(SIGKILL);
    child_.Wait(kStopTimeout);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace descant::cli
