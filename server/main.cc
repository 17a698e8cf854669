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
#include "adapters/store_verify.h"
#include "grpc/support/log.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/fs.h"
#include "runtime/base/log.h"
#include "server/app.h"
#include "server/backend.h"
#include "server/config.h"
#include "server/export_merged.h"
#include "server/tenants.h"
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
    "SIGHUP reads the tenants file and the adapters' manifest again, and\n"
    "opens the usage log anew.\n"
    "SIGTERM and SIGINT drain: readiness falls, new calls are answered\n"
    "UNAVAILABLE, accepted ones finish within --drain-timeout. A second one\n"
    "ends the server at once. Logs are JSON lines on standard error.\n"
    "Exit codes: 0 clean, 78 configuration, 75 try again later, 70 internal.\n";

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "descant-server: %s\n",
               std::string(status.message()).c_str());
  return ExitCode(status);
}

// Blocks the signals that the server answers, in this thread and those it
// makes.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// The signal that came within a second, or -1.
int WaitForSignal(const sigset_t& signals, int64_t milliseconds) {
  const timespec timeout = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  return sigtimedwait(&signals, nullptr, &timeout);
}

// --verify-store: one line for each thing that is not as it was stored.
int VerifyStore(const ServerConfig& config) {
  PosixFs fs;
  const absl::StatusOr<StoreVerification> found = VerifyStoreDirectory(
      &fs, config.adapter_dir, [](const VerifyResult& version) {
        if (version.status.ok()) return;
        const AdapterInfo& info = version.info;
        std::printf("%s version %lu, %s: %s\n",
                    LogSafe(AdapterLabel(info.tenant, info.name)).c_str(),
                    static_cast<unsigned long>(info.version),
                    LogSafe(info.digest).c_str(),
                    std::string(version.status.message()).c_str());
      });
  if (!found.ok()) return Fail(found.status());
  for (const std::string& path : found->extra_paths) {
    std::printf("%s: no version refers to it\n", path.c_str());
  }
  if (found->torn_journal_bytes > 0) {
    std::printf("the journal ends in %lu bytes that are no record\n",
                static_cast<unsigned long>(found->torn_journal_bytes));
  }
  if (!found->locked) std::printf("a server may be using the store\n");
  std::printf(
      "%ld adapters, %ld versions, %lu bytes: %ld damaged, %ld could "
      "not be read, %ld extra files\n",
      static_cast<long>(found->adapters), static_cast<long>(found->versions),
      static_cast<unsigned long>(found->bytes),
      static_cast<long>(found->damaged), static_cast<long>(found->unreadable),
      static_cast<long>(found->extra_files));
  return found->sound() ? 0 : 70;
}

// --self-test: a table of what was compared.
int SelfTest(const ServerConfig& config) {
  std::printf("%-30s %-10s %-10s %s\n", "", "error", "bound", "");
  const absl::Status status =
      SelfTestBackend(config, [](const SelfTestCheck& check) {
        if (check.status.ok()) {
          std::printf("%-30s %-10.3g %-10.3g %s\n", check.name.c_str(),
                      check.error, check.bound, check.ok() ? "ok" : "DIFFERS");
        } else {
          std::printf("%-30s %s\n", check.name.c_str(),
                      std::string(check.status.message()).c_str());
        }
        std::fflush(stdout);
      });
  return status.ok() ? 0 : Fail(status);
}

// --export-merged: one line that says what was written.
int Export(const ServerConfig& config, const sigset_t& signals) {
  const auto summary = ExportMerged(config, [&signals]() -> absl::Status {
    const int signal = WaitForSignal(signals, 0);
    if (signal != SIGTERM && signal != SIGINT) return absl::OkStatus();
    return absl::UnavailableError("stopped by a signal, nothing was written");
  });
  if (!summary.ok()) return Fail(summary.status());
  std::printf(
      "%s: %ld tensors, %ld of them merged with %s, %lu bytes in %d file%s\n",
      LogSafe(config.out).c_str(), static_cast<long>(summary->tensors),
      static_cast<long>(summary->merged), LogSafe(config.export_merged).c_str(),
      static_cast<unsigned long>(summary->bytes), summary->shards,
      summary->shards == 1 ? "" : "s");
  return 0;
}

// --make-key. The key is for its tenant alone and can't be shown again.
int MakeKey() {
  const std::string key = MakeApiKey();
  std::printf("key: %s\nin the tenants file: {id: k1, sha256: %s}\n",
              key.c_str(), HexOf(Sha256Of(key)).c_str());
  return 0;
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

  while (true) {
    const int signal = WaitForSignal(signals, 1000);
    if (signal == SIGTERM || signal == SIGINT) break;
    if (signal == SIGHUP) {
      (*app)->Reload();
    } else {
      (*app)->KeepHouse();
      if ((*app)->device_failed()) break;
    }
  }
  if (!(*app)->alive()) {
    LogError("the engine hangs: ending at once, without it");
    std::_Exit(70);
  }
  LogInfo("draining, for at most ", ToSeconds(config.drain_timeout), " s");
  std::atomic<bool> drained{false};
  std::thread drain([&] {
    (*app)->Drain(std::chrono::steady_clock::now() + config.drain_timeout);
    drained = true;
  });
  while (!drained) {
    const int signal = WaitForSignal(signals, 50);
    if (signal == SIGTERM || signal == SIGINT) {
      LogWarning("second signal: ending at once");
      std::_Exit(128 + SIGTERM);
    }
  }
  drain.join();
  const bool device_failed = (*app)->device_failed();
  app->reset();
  LogInfo("drained");
  return device_failed ? 70 : 0;
}

int Main(int argc, char** argv) {
  const sigset_t signals = BlockSignals();
  // gRPC's own lines are not JSON; what matters of them is in ours.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function([](gpr_log_func_args*) {});
  }
  // No core file with tenants' prompts in it.
  prctl(PR_SET_DUMPABLE, 0);
  if (const char* text = std::getenv("DESCANT_FAILPOINTS")) {
    LogWarning("failpoints are armed: this server is to fail");
    const absl::Status armed = ArmFailpointsFromText(text);
    if (!armed.ok()) return Fail(armed);
  }
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
  if (config->make_key) return MakeKey();
  if (config->verify_store) return VerifyStore(*config);
  if (config->self_test) return SelfTest(*config);
  if (!config->export_merged.empty()) return Export(*config, signals);
  return Serve(*config, signals);
}

}  // namespace
}  // namespace descant

int main(int argc, char** argv) { return descant::Main(argc, argv); }
