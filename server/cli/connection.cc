#include "server/cli/connection.h"

#include <grpcpp/support/client_interceptor.h>

#include <chrono>
#include <utility>
#include <vector>

namespace descant::cli {
namespace {

// An answer carries log-probabilities of every token: more than gRPC's 4 MiB
// when a client asks for many.
constexpr int kMaxReceiveBytes = 64 << 20;
constexpr auto kShortDeadline = std::chrono::seconds(30);

namespace interceptors = grpc::experimental;

// Call credentials need a channel with TLS; a header needs none.
class SendApiKey final : public interceptors::Interceptor {
 public:
  explicit SendApiKey(const std::string& header) : header_(header) {}

  void Intercept(interceptors::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            interceptors::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", header_);
    }
    methods->Proceed();
  }

 private:
  const std::string& header_;  // the factory's, which the channel owns
};

class SendApiKeyFactory final
    : public interceptors::ClientInterceptorFactoryInterface {
 public:
  explicit SendApiKeyFactory(const std::string& api_key)
      : header_("Bearer " + api_key) {}

  interceptors::Interceptor* CreateClientInterceptor(
      interceptors::ClientRpcInfo*) override {
    return new SendApiKey(header_);
  }

 private:
  const std::string header_;
};

}  // namespace

Connection Connect(const std::string& target, const Credentials& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  // A server that restarts is back within seconds, where gRPC would come back
  // after two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // A server that vanished is noticed, however long the call.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  if (!credentials.server_name.empty()) {
    arguments.SetSslTargetNameOverride(credentials.server_name);
  }
  Connection connection;
  connection.target = target;
  std::vector<std::unique_ptr<interceptors::ClientInterceptorFactoryInterface>>
      factories;
  if (!credentials.api_key.empty()) {
    factories.push_back(
        std::make_unique<SendApiKeyFactory>(credentials.api_key));
  }
  connection.channel = interceptors::CreateCustomChannelWithInterceptors(
      target,
      credentials.tls != nullptr ? credentials.tls
                                 : grpc::InsecureChannelCredentials(),
      arguments, std::move(factories));
  connection.generation = v1::GenerationService::NewStub(connection.channel);
  connection.adapters = v1::AdapterService::NewStub(connection.channel);
  return connection;
}

void SetShortDeadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + kShortDeadline);
}

}  // namespace descant::cli
