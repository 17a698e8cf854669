// The client's end of a connection to a server.
#ifndef DESCANT_SERVER_CLI_CONNECTION_H_
#define DESCANT_SERVER_CLI_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "descant/v1/adapter.grpc.pb.h"
#include "descant/v1/generation.grpc.pb.h"
#include "server/cli/credentials.h"

namespace descant::cli {

// One channel and its stubs. Connects at the first call. Thread-safe.
struct Connection {
  std::string target;  // HOST:PORT
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::GenerationService::Stub> generation;
  std::unique_ptr<v1::AdapterService::Stub> adapters;
};

// With an API key, every call carries "authorization: Bearer <api_key>".
Connection Connect(const std::string& target,
                   const Credentials& credentials = {});

// Deadline of a call that does not generate: these answer at once or never.
void SetShortDeadline(grpc::ClientContext* context);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_CONNECTION_H_
