#include "server/metrics_listener.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "server/limits.h"

namespace descant {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;

using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;
using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

Response Answer(const Request& request, const MetricsPages& pages) {
  Response response(http::status::ok, request.version());
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  const auto check = [&response](bool good) {
    if (!good) response.result(http::status::service_unavailable);
    response.body() = good ? "ok\n" : "not now\n";
  };
  // What follows a '?' says nothing here.
  const beast::string_view path =
      request.target().substr(0, request.target().find('?'));
  if (request.method() != http::verb::get &&
      request.method() != http::verb::head) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET, HEAD");
  } else if (path == "/metrics") {
    response.set(http::field::content_type,
                 "text/plain; version=0.0.4; charset=utf-8");
    response.body() = pages.metrics();
  } else if (path == "/livez") {
    check(pages.alive());
  } else if (path == "/readyz") {
    check(pages.ready());
  } else {
    response.result(http::status::not_found);
  }
  response.keep_alive(request.keep_alive());
  response.prepare_payload();
  if (request.method() == http::verb::head) response.body().clear();
  return response;
}

absl::StatusOr<std::shared_ptr<ssl::context>> MakeContext(
    const TlsMaterial& material) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  error_code error;
  context->use_certificate_chain(asio::buffer(material.certificate_chain),
                                 error);
  if (!error) {
    context->use_private_key(asio::buffer(material.private_key),
                             ssl::context::pem, error);
  }
  if (error) return absl::InternalError(error.message());
  return context;
}

// How many connections there are.
using Place = std::shared_ptr<int>;

// One connection. Keeps itself alive through its handlers.
template <typename Stream>
class Connection final
    : public std::enable_shared_from_this<Connection<Stream>> {
 public:
  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

  template <typename... Arguments>
  Connection(const MetricsPages* pages, Place place,
             std::shared_ptr<ssl::context> context, Arguments&&... stream)
      : pages_(pages),
        place_(std::move(place)),
        context_(std::move(context)),
        stream_(std::forward<Arguments>(stream)...) {}

  void Start() {
    if constexpr (kTls) {
      SetTimer();
      stream_.async_handshake(
          ssl::stream_base::server,
          [self = this->shared_from_this()](error_code error) {
            if (!error) self->Read();
          });
    } else {
      Read();
    }
  }

 private:
  void SetTimer() {
    beast::get_lowest_layer(stream_).expires_after(limits::kHttpTimeout);
  }

  void Read() {
    parser_.emplace();
    parser_->header_limit(limits::kMaxHttpHeaderBytes);
    parser_->body_limit(0);
    SetTimer();
    http::async_read(
        stream_, buffer_, *parser_,
        [self = this->shared_from_this()](error_code error, size_t) {
          if (!error) self->Write();
        });
  }

  void Write() {
    response_ = Answer(parser_->get(), *pages_);
    SetTimer();
    http::async_write(
        stream_, response_,
        [self = this->shared_from_this()](error_code error, size_t) {
          if (error) return;
          if (self->response_.need_eof()) return self->Close();
          self->Read();
        });
  }

  void Close() {
    if constexpr (kTls) {
      SetTimer();
      stream_.async_shutdown([self = this->shared_from_this()](error_code) {});
    } else {
      error_code ignored;
      stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    }
  }

  const MetricsPages* const pages_;
  const Place place_;
  const std::shared_ptr<ssl::context> context_;
  Stream stream_;
  beast::flat_buffer buffer_{limits::kMaxHttpHeaderBytes};
  std::optional<http::request_parser<http::empty_body>> parser_;
  Response response_;
};

absl::StatusOr<tcp::endpoint> Resolve(asio::io_context* io,
                                      const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  error_code error;
  const auto found = tcp::resolver(*io).resolve(host, address.substr(colon + 1),
                                                tcp::resolver::passive, error);
  if (error) return absl::FailedPreconditionError(error.message());
  return found.begin()->endpoint();
}

}  // namespace

// Everything but Open and the destructor runs on thread_.
class MetricsListener::Server {
 public:
  Server(const TlsCertificate* certificate, MetricsPages pages)
      : certificate_(certificate), pages_(std::move(pages)) {}

  ~Server() {
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Open(const std::string& address) {
    const absl::StatusOr<tcp::endpoint> endpoint = Resolve(&io_, address);
    if (!endpoint.ok()) return endpoint.status();
    error_code error;
    acceptor_.open(endpoint->protocol(), error);
    if (!error) {
      acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    }
    if (!error) acceptor_.bind(*endpoint, error);
    if (!error) acceptor_.listen(limits::kMaxHttpConnections, error);
    if (error) return absl::FailedPreconditionError(error.message());
    Accept();
    thread_ = std::thread([this] { io_.run(); });
    return absl::OkStatus();
  }

 private:
  void Accept() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (!error) {
        Serve(std::move(socket));
        return Accept();
      }
      if (error == asio::error::operation_aborted) return;
      // No file descriptor is left, for instance: not again at once.
      retry_.expires_after(limits::kHttpAcceptRetry);
      retry_.async_wait([this](error_code stopped) {
        if (!stopped) Accept();
      });
    });
  }

  void Serve(tcp::socket socket) {
    // One more than connections: this class's own.
    if (place_.use_count() > limits::kMaxHttpConnections) return;
    if (certificate_ == nullptr) {
      std::make_shared<Connection<PlainStream>>(&pages_, place_, nullptr,
                                                std::move(socket))
          ->Start();
      return;
    }
    if (!RefreshContext()) return;
    std::make_shared<Connection<TlsStream>>(&pages_, place_, context_,
                                            std::move(socket), *context_)
        ->Start();
  }

  // False where no handshake is possible.
  bool RefreshContext() {
    std::shared_ptr<const TlsMaterial> material = certificate_->current();
    if (material == material_) return context_ != nullptr;
    auto context = MakeContext(*material);
    material_ = std::move(material);
    if (context.ok()) {
      context_ = *std::move(context);
    } else {
      LogError("metrics: the new certificate is not used: ",
               LogSafe(context.status().message()));
    }
    return context_ != nullptr;
  }

  const TlsCertificate* const certificate_;
  const MetricsPages pages_;
  const Place place_ = std::make_shared<int>();
  std::shared_ptr<const TlsMaterial> material_;  // what context_ is made of
  std::shared_ptr<ssl::context> context_;
  asio::io_context io_{1};
  tcp::acceptor acceptor_{io_};
  asio::steady_timer retry_{io_};
  std::thread thread_;
};

MetricsListener::MetricsListener(std::unique_ptr<Server> server)
    : server_(std::move(server)) {}

MetricsListener::~MetricsListener() = default;

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(
    const std::string& address, const TlsCertificate* certificate,
    MetricsPages pages) {
  auto server = std::make_unique<Server>(certificate, std::move(pages));
  if (const absl::Status status = server->Open(address); !status.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--metrics-listen: cannot listen on ", address, ": ",
                     status.message(), "; is the port taken?"));
  }
  return std::unique_ptr<MetricsListener>(
      new MetricsListener(std::move(server)));
}

}  // namespace descant
