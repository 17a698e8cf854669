#include "server/cli/connection.h"

#include <chrono>

namespace descant::cli {
namespace {

// An answer carries log-probabilities of every token: more than gRPC's 4 MiB
// when a client asks for many.
constexpr int kMaxReceiveBytes = 64 << 20;
constexpr auto kShortDeadline = std::chrono::seconds(30);

}  // namespace

Connection Connect(const std::string& target) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  Connection connection;
  connection.target = target;
  connection.channel = grpc::CreateCustomChannel(
      target, grpc::InsecureChannelCredentials(), arguments);
  connection.generation = v1::GenerationService::NewStub(connection.channel);
  connection.adapters = v1::AdapterService::NewStub(connection.channel);
  return connection;
}

void SetShortDeadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + kShortDeadline);
}

}  // namespace descant::cli
