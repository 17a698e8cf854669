// Who the client is, and how it knows the server.
#ifndef DESCANT_SERVER_CLI_CREDENTIALS_H_
#define DESCANT_SERVER_CLI_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace CLI {
class App;
}

namespace descant::cli {

struct CredentialOptions {
  std::string api_key_file;
  bool tls = false;
  // Paths of PEM files; each turns TLS on.
  std::string ca;
  std::string cert;
  std::string key;
  std::string server_name;  // turns TLS on too
};

struct Credentials {
  std::string api_key;  // empty: calls carry none
  // Null: no TLS.
  std::shared_ptr<grpc::ChannelCredentials> tls;
  // The name that the server's certificate must have; empty: the target's.
  std::string server_name;
};

// --api-key-file, --tls, --ca, --cert, --key, --server-name and their
// environment variables. REQUIRES: `options` outlives `app`.
void AddCredentialOptions(CLI::App* app, CredentialOptions* options);

// NOT_FOUND: no such file; INVALID_ARGUMENT: what it holds is none of the kind,
// or --cert without --key. Messages repeat nothing of a file.
absl::StatusOr<Credentials> LoadCredentials(const CredentialOptions& options);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_CREDENTIALS_H_
