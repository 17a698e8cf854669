#include "server/cli/admin_options.h"

#include "server/cli/connection.h"
#include "server/cli/text.h"

namespace descant::cli {

std::unique_ptr<v1::AdminService::Stub> AdminOptions::Connect(
    const GlobalOptions& global) const {
  return v1::AdminService::NewStub(
      descant::cli::Connect(target, global.credentials).channel);
}

void AdminOptions::Fill(v1::AdapterReference* reference) const {
  reference->set_tenant(ToValidUtf8(tenant));
  reference->set_adapter_id(ToValidUtf8(id));
}

void AddAdminTarget(CLI::App* command, AdminOptions* options) {
  command
      ->add_option("--admin-target", options->target,
                   "The server's admin listener, HOST:PORT")
      ->envname("DESCANT_ADMIN_TARGET")
      ->capture_default_str();
}

void AddAdapterReference(CLI::App* command, AdminOptions* options) {
  command->add_option("id", options->id, "NAME or NAME@sha256:HEX")->required();
  command->add_option("--tenant", options->tenant, "Whose it is");
}

}  // namespace descant::cli
