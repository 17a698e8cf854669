// Who a caller is by certificate, by token and by key, over real TLS.
#include <stdlib.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/tls_certificate.h"
#include "tests/server/certificates.h"
#include "tests/server/test_server.h"
#include "tests/server/tokens.h"

namespace descant {
namespace {

using grpc::StatusCode;

constexpr char kAcmeId[] = "URI:spiffe://example.org/acme";
constexpr char kOpsId[] = "URI:spiffe://example.org/ops";
constexpr char kHeader[] = R"({"alg":"ES256","typ":"JWT","kid":"k1"})";

using Metadata = std::multimap<std::string, std::string>;

class IdentityTest : public ::testing::Test {
 protected:
  IdentityTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "identity-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    const PemPair own = authority_.Issue("DNS:localhost,IP:127.0.0.1");
    files_ = {folder_ + "/tls.crt", folder_ + "/tls.key", folder_ + "/ca.crt"};
    WriteFileAtomically(files_.certificate, own.certificate);
    WriteFileAtomically(files_.key, own.key);
    WriteFileAtomically(files_.client_ca, clients_.certificate());
    WriteFileAtomically(folder_ + "/k1.pem", signer_.public_pem());
    WriteTenants("spiffe-ids: ['spiffe://example.org/acme'], ");
    TestServerOptions options;
    options.tenants_file = folder_ + "/tenants.yaml";
    auto tenants = TenantDirectory::Load(options.tenants_file);
    EXPECT_TRUE(tenants.ok()) << tenants.status();
    options.tenants = *tenants;
    options.credentials = Client({});
    options.configure = [this](ServerConfig* config) {
      config->tls_cert = files_.certificate;
      config->tls_key = files_.key;
      config->tls_client_ca = files_.client_ca;
      auto material = LoadTlsMaterial(files_, SystemClock().UnixSeconds());
      EXPECT_TRUE(material.ok()) << material.status();
      config->tls = *material;
    };
    server_ = std::make_unique<TestServer>(options);
  }
  ~IdentityTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void WriteTenants(const std::string& of_acme) {
    const auto keys = [](const std::string& key) {
      return absl::StrCat("keys: [{id: k, sha256: ", HexOf(Sha256Of(key)),
                          "}]}\n");
    };
    WriteFileAtomically(
        folder_ + "/tenants.yaml",
        absl::StrCat(
            "tenants:\n- {id: acme, ", of_acme, keys("acme-key"),
            "- {id: globex, ", keys("globex-key"),
            "- {id: ops, roles: [operator], "
            "spiffe-ids: ['spiffe://example.org/ops']}\n"
            "jwt: [{issuer: 'https://id', audience: descant, tenants: [acme, "
            "globex], keys: [{kid: k1, algorithm: ES256, file: k1.pem}]}]\n"));
  }

  std::shared_ptr<grpc::ChannelCredentials> Client(const PemPair& own) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority_.certificate();
    options.pem_cert_chain = own.certificate;
    options.pem_private_key = own.key;
    return grpc::SslCredentials(options);
  }
  // A connection that shows a certificate of these names; "": none.
  std::shared_ptr<grpc::Channel> Channel(const std::string& names,
                                         const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const PemPair own = names.empty() ? PemPair() : clients_.Issue(names);
    return grpc::CreateCustomChannel(address, Client(own), arguments);
  }
  std::shared_ptr<grpc::Channel> Channel(const std::string& names) {
    return Channel(names, server_->address());
  }

  // The adapters it sees; "-" and the status where it is refused.
  std::string Seen(const std::shared_ptr<grpc::Channel>& channel,
                   const Metadata& metadata, grpc::Status* status) const {
    grpc::ClientContext context;
    for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
    v1::ListAdaptersResponse response;
    *status = v1::AdapterService::NewStub(channel)->ListAdapters(&context, {},
                                                                 &response);
    if (!status->ok()) return "-";
    std::string names;
    for (const auto& adapter : response.adapters()) names += adapter.name();
    return names;
  }
  std::string Seen(const std::string& names, const Metadata& metadata = {}) {
    grpc::Status status;
    const std::string seen = Seen(Channel(names), metadata, &status);
    if (seen == "-") ExpectRefused(status);
    return seen;
  }

  // All refusals are equal, to the byte.
  void ExpectRefused(const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(ReasonIn(status), "UNAUTHENTICATED");
    if (refusal_.ok()) refusal_ = status;
    EXPECT_EQ(status.error_message(), refusal_.error_message());
    EXPECT_EQ(status.error_details(), refusal_.error_details());
  }

  static Metadata Bearer(const std::string& key) {
    return {{"authorization", "Bearer " + key}};
  }
  // A token for acme of the issuer, good for `seconds`.
  std::string Token(const std::string& tenant, int seconds = 60) const {
    return signer_.Sign(kHeader, Payload(tenant, seconds));
  }
  static std::string Payload(const std::string& tenant, int seconds) {
    return absl::StrCat(R"({"iss":"https://id","aud":"descant","exp":)",
                        std::time(nullptr) + seconds, R"(,"tenant":")", tenant,
                        R"("})");
  }

  // An adapter "a" of acme and "g" of globex.
  void UploadBoth() {
    server_->UseKey("acme-key");
    ASSERT_TRUE(server_->Upload("a", 1).ok());
    server_->UseKey("globex-key");
    ASSERT_TRUE(server_->Upload("g", 2).ok());
  }

  TestAuthority authority_{"authority"};
  TestAuthority clients_{"clients"};
  const TokenSigner signer_{TokenSignature::kEs256};
  std::string folder_;
  TlsFiles files_;
  std::unique_ptr<TestServer> server_;
  grpc::Status refusal_;
};

TEST_F(IdentityTest, ACertificateIsTheTenantsWhoseIdItHas) {
  UploadBoth();
  EXPECT_EQ(Seen(kAcmeId), "a");
  EXPECT_EQ(Seen("", Bearer("globex-key")), "g");
  for (const char* names :
       {"", "DNS:acme", "URI:spiffe://example.org/nobody",
        "URI:spiffe://example.org/acme/", "URI:spiffe://example.com/acme",
        "URI:https://example.org/acme", "DNS:spiffe://example.org/acme",
        // Two ids are none: RFC of SPIFFE's X.509-SVID, section 5.2.
        "URI:spiffe://example.org/acme,URI:spiffe://example.org/ops"}) {
    EXPECT_EQ(Seen(names), "-") << names;
  }
}

TEST_F(IdentityTest, MetadataNeverSaysWhoseTheCertificateIs) {
  for (const char* key : {"x-spiffe-id", "peer_spiffe_id", "x-tenant",
                          "x-forwarded-client-cert"}) {
    EXPECT_EQ(Seen("", {{key, "spiffe://example.org/acme"}}), "-") << key;
  }
}

TEST_F(IdentityTest, KeyAndCertificateMustAgree) {
  UploadBoth();
  EXPECT_EQ(Seen(kAcmeId, Bearer("acme-key")), "a");
  EXPECT_EQ(Seen(kAcmeId, Bearer(Token("acme"))), "a");
  EXPECT_EQ(Seen(kAcmeId, Bearer("globex-key")), "-");
  EXPECT_EQ(Seen(kAcmeId, Bearer(Token("globex"))), "-");
  // A bad key is not passed over for a good certificate.
  EXPECT_EQ(Seen(kAcmeId, Bearer("wrong")), "-");
  EXPECT_EQ(Seen(kAcmeId, {{"authorization", ""}}), "-");
  EXPECT_EQ(Seen(kAcmeId, {{"authorization", "Bearer acme-key"},
                           {"authorization", "Bearer acme-key"}}),
            "-");
  // A certificate of nobody, a proxy's, leaves it to the key.
  EXPECT_EQ(Seen("URI:spiffe://example.org/proxy", Bearer("globex-key")), "g");
  EXPECT_EQ(Seen("DNS:proxy", Bearer("acme-key")), "a");
}

TEST_F(IdentityTest, IdentityIsOfTheCallNotOfTheConnection) {
  UploadBoth();
  const auto channel = Channel(kAcmeId);
  grpc::Status status;
  EXPECT_EQ(Seen(channel, {}, &status), "a");
  EXPECT_EQ(Seen(channel, Bearer("globex-key"), &status), "-");
  WriteTenants("");
  server_->app().Reload();
  EXPECT_EQ(Seen(channel, {}, &status), "-");
  ExpectRefused(status);
  EXPECT_EQ(Seen(channel, Bearer("globex-key"), &status), "g");
  WriteTenants("spiffe-ids: ['spiffe://example.org/acme'], ");
  server_->app().Reload();
  EXPECT_EQ(Seen(channel, {}, &status), "a");
}

// Rows 76 and 77: the variants one by one are in jwt_test.
TEST_F(IdentityTest, TokensAreTheTenantsTheyName) {
  UploadBoth();
  EXPECT_EQ(Seen("", Bearer(Token("acme"))), "a");
  EXPECT_EQ(Seen("", Bearer(Token("globex"))), "g");
  const std::string none = R"({"alg":"none","kid":"k1"})";
  const std::string hs256 = R"({"alg":"HS256","kid":"k1"})";
  const TokenSigner other(TokenSignature::kEs256);
  for (const std::string& bad :
       {Token("acme", -60), Token("ops"), Token("nobody"), Token(""),
        signer_.Sign(none, Payload("acme", 60), TokenSignature::kNone),
        signer_.Sign(hs256, Payload("acme", 60), TokenSignature::kHs256),
        signer_.Sign(R"({"alg":"ES256","kid":"../../x"})", Payload("acme", 60)),
        other.Sign(kHeader, Payload("acme", 60)), Token("acme") + "A",
        Token("acme") + std::string(3000, 'A'), std::string("a.b.c"),
        std::string("e30.e30.e30")}) {
    EXPECT_EQ(Seen("", Bearer(bad)), "-") << bad;
  }
  // A key that the file has no more.
  WriteFileAtomically(folder_ + "/k1.pem", other.public_pem());
  server_->app().Reload();
  EXPECT_EQ(Seen("", Bearer(Token("acme"))), "-");
  EXPECT_EQ(Seen("", Bearer(other.Sign(kHeader, Payload("acme", 60)))), "a");
}

TEST_F(IdentityTest, OperatorsByCertificate) {
  const auto stats = [this](const std::string& names,
                            const Metadata& metadata) {
    grpc::ClientContext context;
    for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
    v1::GetStatsResponse response;
    return v1::AdminService::NewStub(Channel(names, server_->admin_address()))
        ->GetStats(&context, {}, &response)
        .error_code();
  };
  EXPECT_EQ(stats(kOpsId, {}), StatusCode::OK);
  EXPECT_EQ(stats(kAcmeId, {}), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(stats(kOpsId, Bearer("acme-key")), StatusCode::UNAUTHENTICATED);
  // On a loopback address, as without certificates.
  EXPECT_EQ(stats("", {}), StatusCode::OK);
  EXPECT_EQ(stats("", Bearer("acme-key")), StatusCode::PERMISSION_DENIED);
  // An operator is no tenant of the others' services.
  grpc::Status status;
  EXPECT_EQ(Seen(Channel(kOpsId), {}, &status), "-");
  EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED);
}

}  // namespace
}  // namespace descant
