#include "server/cli/credentials.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "server/cli/api_key.h"

namespace descant::cli {
namespace {

absl::StatusOr<std::string> ReadPem(const char* flag, const std::string& path,
                                    const char* label) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file.is_open() || file.bad()) {
    return absl::NotFoundError(
        absl::StrCat(flag, ": ", path, ": cannot be read"));
  }
  // gRPC would say no more than that it has no connection.
  if (!absl::StrContains(text.str(), label)) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": ", path, ": must be a PEM file"));
  }
  return text.str();
}

}  // namespace

void AddCredentialOptions(CLI::App* app, CredentialOptions* options) {
  app->add_option("--api-key-file", options->api_key_file,
                  "File with the API key or token; else $DESCANT_API_KEY, if "
                  "set");
  app->add_flag("--tls", options->tls,
                "Speak TLS; the options below turn it on too")
      ->envname("DESCANT_TLS");
  app->add_option("--ca", options->ca,
                  "PEM file of the CAs that the server's certificate may be "
                  "of; else the system's")
      ->envname("DESCANT_TLS_CA");
  app->add_option("--cert", options->cert, "PEM file: your own certificate")
      ->envname("DESCANT_TLS_CERT");
  app->add_option("--key", options->key, "PEM file: its key")
      ->envname("DESCANT_TLS_KEY");
  app->add_option("--server-name", options->server_name,
                  "Name that the server's certificate must have, where it is "
                  "not the target's")
      ->envname("DESCANT_TLS_SERVER_NAME");
}

absl::StatusOr<Credentials> LoadCredentials(const CredentialOptions& options) {
  Credentials credentials;
  DESCANT_ASSIGN_OR_RETURN(credentials.api_key,
                           LoadApiKey(options.api_key_file));
  if (options.cert.empty() != options.key.empty()) {
    return absl::InvalidArgumentError("--cert, --key: one needs the other");
  }
  credentials.server_name = options.server_name;
  grpc::SslCredentialsOptions tls;
  DESCANT_ASSIGN_OR_RETURN(
      tls.pem_root_certs,
      ReadPem("--ca", options.ca, "-----BEGIN CERTIFICATE-----"));
  DESCANT_ASSIGN_OR_RETURN(
      tls.pem_cert_chain,
      ReadPem("--cert", options.cert, "-----BEGIN CERTIFICATE-----"));
  DESCANT_ASSIGN_OR_RETURN(tls.pem_private_key,
                           ReadPem("--key", options.key, "PRIVATE KEY-----"));
  if (options.tls || !options.ca.empty() || !options.cert.empty() ||
      !options.server_name.empty()) {
    credentials.tls = grpc::SslCredentials(tls);
  }
  return credentials;
}

}  // namespace descant::cli
