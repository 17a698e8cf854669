// descant-server: see --help. Exit codes: 0 clean, 78 configuration, 75 try
// again later, 70 internal.
#include <signal.h>
#include <sys/prctl.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpc/support/log.h"
#include "runtime/base/log.h"
#include "server/app.h"
#include "server/backend.h"
#include "server/config.h"
#include "server/version.h"

namespace descant {
namespace {

constexpr char kIntroduction[] =
    "Usage: descant-server --model=PATH [flags]\n"
    "\n"
    "Serves many LoRA adapters over one base model: upload adapters while it\n"
    "runs, generate with any of them in one batch. Clients: `descant --help`,\n"
    "or any gRPC client (proto/descant/v1).\n"
    "\n"
    "  descant-server --model=model.gguf\n"
    "  descant-server --config=/etc/descant.yaml --token-budget=512\n"
    "\n"
    "Flags:\n";
constexpr char kEpilogue[] =
    "\n"
    "SIGTERM and SIGINT drain: readiness falls, new calls are answered\n"
    "UNAVAILABLE, accepted ones finish within --drain-timeout. A second one\n"
    "ends the server at once. Logs are JSON lines on standard error.\n"
    "Exit codes: 0 clean, 78 configuration, 75 try again later, 70 internal.\n";

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "descant-server: %s\n",
               std::string(status.message()).c_str());
  return ExitCode(status);
}

// Blocks the signals that end the server, in this thread and those it makes.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// The signal that came within a second, or -1.
int WaitForSignal(const sigset_t& signals, int64_t milliseconds) {
  const timespec timeout = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  return sigtimedwait(&signals, nullptr, &timeout);
}

int Serve(const ServerConfig& config, const sigset_t& signals) {
  absl::StatusOr<Backend> backend = LoadBackend(config);
  if (!backend.ok()) return Fail(backend.status());
  absl::StatusOr<std::unique_ptr<App>> app =
      App::Start(config, *std::move(backend));
  if (!app.ok()) return Fail(app.status());
  LogInfo("ready: descant-server ", kServerVersion, " serves ",
          (*app)->edge()->facts.name, " on ", config.listen, ", admin on ",
          config.admin_listen, ", metrics on ", config.metrics_listen);

  while (WaitForSignal(signals, 1000) < 0) (*app)->CheckLiveness();
  LogInfo("draining, for at most ", ToSeconds(config.drain_timeout), " s");
  std::atomic<bool> drained{false};
  std::thread drain([&] {
    (*app)->Drain(std::chrono::steady_clock::now() + config.drain_timeout);
    drained = true;
  });
  while (!drained) {
    if (WaitForSignal(signals, 50) >= 0) {
      LogWarning("second signal: ending at once");
      std::_Exit(128 + SIGTERM);
    }
  }
  drain.join();
  app->reset();
  LogInfo("drained");
  return 0;
}

int Main(int argc, char** argv) {
  const sigset_t signals = BlockSignals();
  // gRPC's own lines are not JSON; what matters of them is in ours.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function([](gpr_log_func_args*) {});
  }
  // No core file with tenants' prompts in it.
  prctl(PR_SET_DUMPABLE, 0);
  absl::StatusOr<ServerConfig> config =
      ParseConfig(std::vector<std::string>(argv + 1, argv + argc));
  if (!config.ok()) return Fail(config.status());
  if (config->help) {
    std::printf("%s%s%s", kIntroduction, OptionsHelp().c_str(), kEpilogue);
    return 0;
  }
  if (config->help_markdown) {
    std::fputs(OptionsMarkdown().c_str(), stdout);
    return 0;
  }
  if (config->version) {
    std::printf("descant-server %s\n", kServerVersion);
    return 0;
  }
  return Serve(*config, signals);
}

}  // namespace
}  // namespace descant

int main(int argc, char** argv) { return descant::Main(argc, argv); }
