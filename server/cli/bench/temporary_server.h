// A server for the length of one bench.
#ifndef DESCANT_SERVER_CLI_BENCH_TEMPORARY_SERVER_H_
#define DESCANT_SERVER_CLI_BENCH_TEMPORARY_SERVER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/cli/child_process.h"

namespace descant::cli {

// Owns the descant-server found beside this program, on free loopback ports,
// with an adapter store of its own; the end stops it (SIGTERM, then SIGKILL
// after a grace time) and removes the store.
class TemporaryServer {
 public:
  // Waits until it answers. `flags` are passed on as they are. An error's
  // message ends with the last lines of the server's log.
  static absl::StatusOr<std::unique_ptr<TemporaryServer>> Start(
      const std::string& model, const std::vector<std::string>& flags);
  ~TemporaryServer();
  TemporaryServer(const TemporaryServer&) = delete;
  TemporaryServer& operator=(const TemporaryServer&) = delete;

  const std::string& target() const { return target_; }
  // From its start to its first answer.
  double ready_seconds() const { return ready_seconds_; }
  // Resident memory that is no file's; nothing once it has ended.
  std::optional<uint64_t> AnonymousBytes() const;

 private:
  TemporaryServer(std::string folder, std::string target, ChildProcess child)
      : folder_(std::move(folder)),
        target_(std::move(target)),
        child_(std::move(child)) {}

  const std::string folder_;
  const std::string target_;
  ChildProcess child_;
  double ready_seconds_ = 0;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_TEMPORARY_SERVER_H_
