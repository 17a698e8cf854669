// The command-line options of operators' commands, shared by `admin` and
// `merges`.
#ifndef DESCANT_SERVER_CLI_ADMIN_OPTIONS_H_
#define DESCANT_SERVER_CLI_ADMIN_OPTIONS_H_

#include <memory>
#include <string>

#include "descant/v1/admin.grpc.pb.h"
#include "server/cli/command.h"

namespace descant::cli {

struct AdminOptions {
  std::string target = "127.0.0.1:50052";  // HOST:PORT
  std::string tenant;
  std::string id;

  std::unique_ptr<v1::AdminService::Stub> Connect(
      const GlobalOptions& global) const;
  void Fill(v1::AdapterReference* reference) const;
};

// --admin-target. REQUIRES: `options` outlives `command`; here and below.
void AddAdminTarget(CLI::App* command, AdminOptions* options);
// An adapter's id, and --tenant.
void AddAdapterReference(CLI::App* command, AdminOptions* options);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ADMIN_OPTIONS_H_
