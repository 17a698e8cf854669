// One child process with its output in a file: for `bench --serve` and the
// end-to-end tests.
#ifndef DESCANT_SERVER_CLI_CHILD_PROCESS_H_
#define DESCANT_SERVER_CLI_CHILD_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/clock.h"

namespace descant::cli {

// Owns the process: the destructor kills (SIGKILL) and reaps one that still
// runs. The kernel also kills it should this process die first.
// Thread-compatible.
class ChildProcess {
 public:
  // Runs `argv` (argv[0] is the binary's path) with `environment` ("K=V")
  // added to this process's own; standard output and error go to `log_path`.
  // Errors: NOT_FOUND (no such binary), INTERNAL.
  static absl::StatusOr<ChildProcess> Start(
      const std::vector<std::string>& argv,
      const std::vector<std::string>& environment, const std::string& log_path);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  pid_t pid() const { return pid_; }

  // Sends `signal`; nothing once the process was reaped.
  void Signal(int signal);

  // The exit code (128 + n after signal n) once the process has ended; empty
  // while it runs.
  std::optional<int> Poll();

  // Waits for the end, at most `timeout`; empty when it still runs.
  std::optional<int> Wait(Duration timeout);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_;  // -1: moved from
  std::optional<int> exit_code_;
};

// `count` distinct TCP ports, free on 127.0.0.1 at the time of the call.
absl::StatusOr<std::vector<int>> FreeLoopbackPorts(int count);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_CHILD_PROCESS_H_
