#include "server/tls_credentials.h"

#include <string>

#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "runtime/base/check.h"
#include "runtime/base/mutex.h"

namespace descant {
namespace {

// gRPC's C++ classes offer two ways to change a certificate, and neither keeps
// the one before when the new one is bad: they drop it first. The fetcher of
// its C interface asks before each handshake and goes on with what it has.
class TlsCredentials final : public grpc::ServerCredentials {
 public:
  TlsCredentials(const TlsCertificate* certificate, ClientCertificates clients)
      : certificate_(certificate), clients_(clients) {}

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    DESCANT_CHECK(false);  // calls are authorized by server/authorization.h
  }

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    grpc_ssl_server_credentials_options* const options =
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            RequestType(), &TlsCredentials::Fetch, this);
    grpc_server_credentials* const credentials =
        grpc_ssl_server_credentials_create_with_options(options);
    const int port =
        grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  grpc_ssl_client_certificate_request_type RequestType() const {
    switch (clients_) {
      case ClientCertificates::kNotAsked:
        break;
      case ClientCertificates::kOptional:
        return GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
      case ClientCertificates::kRequired:
        return GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    }
    return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<TlsCredentials*>(self)->FetchInto(config);
  }

  grpc_ssl_certificate_config_reload_status FetchInto(
      grpc_ssl_server_certificate_config** config) {
    std::shared_ptr<const TlsMaterial> material = certificate_->current();
    MutexLock lock(&mutex_);
    if (material == given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {
        material->private_key.c_str(), material->certificate_chain.c_str()};
    // gRPC 1.51 aborts where there are no CAs, also if it asks no client for a
    // certificate: then any will do.
    const std::string& roots = clients_ == ClientCertificates::kNotAsked
                                   ? material->certificate_chain
                                   : material->client_ca;
    *config =
        grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    given_ = std::move(material);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const TlsCertificate* const certificate_;
  const ClientCertificates clients_;
  Mutex mutex_;
  std::shared_ptr<const TlsMaterial> given_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(
    const TlsCertificate* certificate, ClientCertificates clients) {
  return std::make_shared<TlsCredentials>(certificate, clients);
}

}  // namespace descant
