// The real server with TLS on all its listeners.
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/tls_certificate.h"
#include "tests/server/certificates.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;
using ::testing::Not;

// A TCP connection to a port of the loopback address, which gives up reading
// after five seconds.
class Socket {
 public:
  explicit Socket(const std::string& address) {
    int port = 0;
    EXPECT_TRUE(
        absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    const timeval limit = {5, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }
  // Sends and reads to the end. True where the server closed the connection.
  bool Exchange(const std::string& bytes, std::string* answer) const {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    char buffer[4096];
    ssize_t n = 0;
    while ((n = recv(fd_, buffer, sizeof(buffer), 0)) > 0) {
      answer->append(buffer, static_cast<size_t>(n));
    }
    return n == 0 || errno == ECONNRESET;
  }

 private:
  int fd_;
};

// A TLS client of OpenSSL's own.
class TlsClient {
 public:
  TlsClient(const std::string& address, int version) : socket_(address) {
    context_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(context_, 0);
    SSL_CTX_set_min_proto_version(context_, version);
    SSL_CTX_set_max_proto_version(context_, version);
    const unsigned char alpn[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context_, alpn, sizeof(alpn));
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, socket_.fd());
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    ERR_clear_error();
  }
  bool connected() const { return connected_; }
  // PEM.
  std::string PeerCertificate() const {
    X509* const peer = SSL_get1_peer_certificate(ssl_);
    if (peer == nullptr) return "";
    BIO* const bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, peer);
    char* data = nullptr;
    const int64_t size = BIO_get_mem_data(bio, &data);
    std::string pem(data, static_cast<size_t>(size));
    BIO_free(bio);
    X509_free(peer);
    return pem;
  }
  std::string Get(const std::string& path) const {
    const std::string request =
        absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: localhost\r\n\r\n");
    SSL_write(ssl_, request.data(), static_cast<int>(request.size()));
    std::string answer;
    char buffer[4096];
    int n = 0;
    while ((n = SSL_read(ssl_, buffer, sizeof(buffer))) > 0) {
      answer.append(buffer, static_cast<size_t>(n));
    }
    return answer;
  }

 private:
  const Socket socket_;
  SSL_CTX* context_;
  SSL* ssl_;
  bool connected_ = false;
};

class TlsTest : public ::testing::Test {
 protected:
  TlsTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "tls-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    files_ = {folder_ + "/tls.crt", folder_ + "/tls.key", ""};
    pair_ = Write(authority_.Issue("DNS:localhost,IP:127.0.0.1"));
  }
  ~TlsTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  PemPair Write(PemPair pair) {
    WriteFileAtomically(files_.certificate, pair.certificate, 0644);
    WriteFileAtomically(files_.key, pair.key);
    return pair;
  }

  // Credentials of a client that trusts the authority.
  std::shared_ptr<grpc::ChannelCredentials> Client(
      const PemPair& own = {}) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority_.certificate();
    options.pem_cert_chain = own.certificate;
    options.pem_private_key = own.key;
    return grpc::SslCredentials(options);
  }

  void Start(bool require_client_cert = false) {
    TestServerOptions options;
    options.credentials = Client();
    options.configure = [&](ServerConfig* config) {
      config->metrics_listen = absl::StrCat("127.0.0.1:", FreePort());
      config->tls_cert = files_.certificate;
      config->tls_key = files_.key;
      config->tls_client_ca = files_.client_ca;
      config->tls_require_client_cert = require_client_cert;
      auto material = LoadTlsMaterial(files_, SystemClock().UnixSeconds());
      ASSERT_TRUE(material.ok()) << material.status();
      config->tls = *std::move(material);
    };
    server_ = std::make_unique<TestServer>(options);
  }

  // GetModel over a connection of its own.
  grpc::Status Call(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::GenerationService::NewStub(
        grpc::CreateCustomChannel(server_->address(), credentials, arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(10));
    v1::GetModelResponse response;
    return stub->GetModel(&context, {}, &response);
  }

  std::string ShownBy(const std::string& address) const {
    return TlsClient(address, TLS1_3_VERSION).PeerCertificate();
  }

  void WatchTwice() {
    for (int i = 0; i < 2; ++i) server_->app().KeepHouse();
  }

  TestAuthority authority_{"authority"};
  std::string folder_;
  TlsFiles files_;
  PemPair pair_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(TlsTest, AllListenersSpeakItFromVersion12On) {
  Start();
  EXPECT_EQ(server_->Tokens("", 3).size(), 3u);
  ASSERT_TRUE(server_->Upload("mine", 1).ok());
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  EXPECT_TRUE(server_->admin().GetStats(&context, {}, &stats).ok());
  for (const std::string& address :
       {server_->address(), server_->admin_address(),
        server_->metrics_address()}) {
    EXPECT_EQ(ShownBy(address), pair_.certificate) << address;
    EXPECT_TRUE(TlsClient(address, TLS1_2_VERSION).connected()) << address;
    EXPECT_FALSE(TlsClient(address, TLS1_1_VERSION).connected()) << address;
    EXPECT_FALSE(TlsClient(address, TLS1_VERSION).connected()) << address;
  }
  EXPECT_EQ(Call(Client()).error_code(), StatusCode::OK);
}

// Row 83, the other way round.
TEST_F(TlsTest, PlainTextIsClosed) {
  Start();
  EXPECT_EQ(Call(grpc::InsecureChannelCredentials()).error_code(),
            StatusCode::UNAVAILABLE);
  for (const std::string& address :
       {server_->address(), server_->admin_address(),
        server_->metrics_address()}) {
    for (const std::string& bytes :
         {std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
          std::string("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
          std::string(5000, '\xff')}) {
      std::string answer;
      EXPECT_TRUE(Socket(address).Exchange(bytes, &answer)) << address;
      EXPECT_THAT(answer, Not(HasSubstr("descant"))) << address;
    }
  }
  EXPECT_EQ(server_->Tokens("", 1).size(), 1u);
}

// Row 83.
TEST_F(TlsTest, ATlsHelloToPlainTextIsClosed) {
  TestServer plain;
  EXPECT_FALSE(TlsClient(plain.address(), TLS1_3_VERSION).connected());
  EXPECT_EQ(plain.Tokens("", 1).size(), 1u);
}

TEST_F(TlsTest, AClientThatTrustsAnotherAuthorityDoesNotGetThrough) {
  Start();
  const TestAuthority other("other");
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = other.certificate();
  EXPECT_EQ(Call(grpc::SslCredentials(options)).error_code(),
            StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, ANewCertificateIsShownWithoutARestart) {
  Start();
  const PemPair next = Write(authority_.Issue("DNS:localhost,IP:127.0.0.1"));
  WatchTwice();
  for (const std::string& address :
       {server_->address(), server_->admin_address(),
        server_->metrics_address()}) {
    EXPECT_EQ(ShownBy(address), next.certificate) << address;
  }
  // The connection from before goes on.
  EXPECT_EQ(server_->Tokens("", 1).size(), 1u);
  EXPECT_EQ(Call(Client()).error_code(), StatusCode::OK);
}

TEST_F(TlsTest, ABadNewCertificateKeepsTheOneBeforeAndIsCounted) {
  Start();
  WriteFileAtomically(files_.key, authority_.Issue("DNS:localhost").key);
  WatchTwice();
  Write(authority_.Issue("DNS:localhost", {-600, -300}));
  server_->app().Reload();
  for (const std::string& address :
       {server_->address(), server_->admin_address(),
        server_->metrics_address()}) {
    EXPECT_EQ(ShownBy(address), pair_.certificate) << address;
  }
  EXPECT_EQ(Call(Client()).error_code(), StatusCode::OK);
  const std::string page = RenderMetrics(*server_->app().edge()->metrics);
  EXPECT_THAT(page, HasSubstr("\ndescant_tls_stale 1\n"));
  EXPECT_THAT(page, HasSubstr("\ndescant_tls_reload_failures_total 2\n"));
}

TEST_F(TlsTest, AClientCertificateIsVerifiedAndMayBeRequired) {
  files_.client_ca = folder_ + "/ca.crt";
  TestAuthority clients("clients");
  TestAuthority others("others");
  WriteFileAtomically(files_.client_ca, clients.certificate(), 0644);
  Start();
  EXPECT_EQ(Call(Client()).error_code(), StatusCode::OK);
  const PemPair good = clients.Issue("URI:spiffe://a/b");
  EXPECT_EQ(Call(Client(good)).error_code(), StatusCode::OK);
  EXPECT_EQ(Call(Client(others.Issue("URI:spiffe://a/b"))).error_code(),
            StatusCode::UNAVAILABLE);
  EXPECT_EQ(
      Call(Client(clients.Issue("URI:spiffe://a/b", {-60, -1}))).error_code(),
      StatusCode::UNAVAILABLE);
  // The authorities are read again too.
  WriteFileAtomically(files_.client_ca, others.certificate(), 0644);
  WatchTwice();
  EXPECT_EQ(Call(Client(good)).error_code(), StatusCode::UNAVAILABLE);

  server_.reset();
  WriteFileAtomically(files_.client_ca, clients.certificate(), 0644);
  Start(/*require_client_cert=*/true);
  EXPECT_EQ(Call(Client()).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call(Client(good)).error_code(), StatusCode::OK);
}

TEST_F(TlsTest, TheMetricsListenerAnswersScrapesAndProbes) {
  Start();
  const auto get = [this](const std::string& path) {
    return TlsClient(server_->metrics_address(), TLS1_3_VERSION).Get(path);
  };
  EXPECT_THAT(get("/metrics"), HasSubstr("\ndescant_scrapes_total 1\n"));
  EXPECT_THAT(get("/metrics"), HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(get("/livez"), HasSubstr(" 200 OK\r\n"));
  EXPECT_THAT(get("/readyz?verbose"), HasSubstr(" 200 OK\r\n"));
  EXPECT_THAT(get("/"), HasSubstr(" 404 Not Found\r\n"));
  EXPECT_THAT(get("/" + std::string(20000, 'a')), Not(HasSubstr(" 200 ")));
}

}  // namespace
}  // namespace descant
