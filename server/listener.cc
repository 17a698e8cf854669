#include "server/listener.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"
#include "server/limits.h"

namespace descant {
namespace {

// Linking gRPC's reflection library turns reflection on for every server of
// the process; this takes it from one.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*
                         plugins) override {
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [](const auto& plugin) {
                                    return plugin->name() ==
                                           "proto_server_reflection";
                                  }),
                   plugins->end());
  }
};

int Milliseconds(Duration time) {
  return static_cast<int>(
      std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

void SetLimits(const ConnectionLimits& connections,
               grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(limits::kMaxReceiveBytes);
  builder->SetMaxSendMessageSize(limits::kMaxSendBytes);
  const std::pair<const char*, int> arguments[] = {
      {GRPC_ARG_MAX_METADATA_SIZE, limits::kMaxMetadataBytes},
      {GRPC_ARG_MAX_CONCURRENT_STREAMS, limits::kMaxConcurrentStreams},
      {GRPC_ARG_HTTP2_HPACK_TABLE_SIZE_DECODER, limits::kHpackTableBytes},
      {GRPC_ARG_HTTP2_HPACK_TABLE_SIZE_ENCODER, limits::kHpackTableBytes},
      {GRPC_ARG_HTTP2_MAX_FRAME_SIZE, limits::kMaxFrameBytes},
      {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, limits::kStreamWindowBytes},
      // Windows grow with the measured bandwidth-delay product: an upload from
      // far away is not held to a window a round trip.
      {GRPC_ARG_HTTP2_BDP_PROBE, 1},
      {GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, limits::kWriteBufferBytes},
      {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
       Milliseconds(limits::kHandshakeTimeout)},
      {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
       Milliseconds(limits::kMinPingInterval)},
      {GRPC_ARG_HTTP2_MAX_PING_STRIKES, limits::kMaxPingStrikes},
      {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
      {GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(connections.keepalive_time)},
      {GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
       Milliseconds(connections.keepalive_timeout)},
      // The default of 2 would end the server's own pings on a connection that
      // carries nothing, and a client that vanishes then would stay.
      {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
      {GRPC_ARG_MAX_CONNECTION_IDLE_MS,
       Milliseconds(limits::kMaxConnectionIdle)},
      {GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(connections.max_age)},
      {GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
       Milliseconds(connections.max_age_grace)}};
  for (const auto& [name, value] : arguments) {
    builder->AddChannelArgument(name, value);
  }
  // A small compressed message can be a large one: off.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  grpc::ResourceQuota quota("descant");
  quota.Resize(limits::kTransportMemoryBytes);
  builder->SetResourceQuota(quota);
}

}  // namespace

absl::StatusOr<std::unique_ptr<grpc::Server>> StartListener(
    const std::string& flag, const std::string& address,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,
    const std::vector<grpc::Service*>& services, bool reflection,
    const ConnectionLimits& connections, Acceptor* acceptor) {
  // Before the builder, which takes what is registered by then.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetLimits(connections, &builder);
  if (!reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  if (const absl::Status bound = acceptor->Listen(address); !bound.ok()) {
    return absl::Status(bound.code(),
                        absl::StrCat(flag, ": ", bound.message()));
  }
  auto sink = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      credentials);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::InternalError(absl::StrCat(flag, ": gRPC did not start"));
  }
  acceptor->Start(std::move(sink), connections.max_connections);
  return server;
}

void EnableHealthService() { grpc::EnableDefaultHealthCheckService(true); }

}  // namespace descant
