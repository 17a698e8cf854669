// TLS of a gRPC listener.
#ifndef DESCANT_SERVER_TLS_CREDENTIALS_H_
#define DESCANT_SERVER_TLS_CREDENTIALS_H_

#include <memory>

#include "grpcpp/security/server_credentials.h"
#include "server/tls_certificate.h"

namespace descant {

// What a listener does about certificates of its clients.
enum class ClientCertificates {
  kNotAsked,
  kOptional,  // one that is shown must be valid
  kRequired,  // a handshake without one fails
};

// TLS 1.2 and 1.3. Each handshake uses what `certificate` holds then; a
// connection keeps what it began with. For one listener, whose server neither
// they nor `certificate` may be gone before.
std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(
    const TlsCertificate* certificate, ClientCertificates clients);

}  // namespace descant

#endif  // DESCANT_SERVER_TLS_CREDENTIALS_H_
